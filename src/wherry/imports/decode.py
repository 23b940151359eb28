"""Decodes a raw record, or finds everything that is wrong with it.

A clean record is decoded in a single, typed step. A record that this step refuses, or whose values need to be
normalised (trimmed, for example), is decoded again, field by field, by the rules of its table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from wherry.errors import ErrorCode
from wherry.imports.json_values import MAX_BUILT_BYTES, read_value
from wherry.imports.models import DecodedRecord, RawRecord, RecordError, UnknownFields, clipped, report_value
from wherry.imports.readers.model import Fields, RecordParser, Unread
from wherry.imports.referring import Keys, ReferringRecords
from wherry.tables.builtin.users import ADMIN
from wherry.tables.derivation import import_fields, references_of, shape_of
from wherry.tables.model import ReferenceField, Table
from wherry.tables.shape import ImportField
from wherry.tables.values import Fault, has_unparsed

_ESCAPED_NUL = b"\\u0000"
_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NEGATIVE_ZERO = re.compile(rb"(?<![\w.+\-\"])-0(?![\w.])")
"""In a number or an array of numbers. In other texts it may find more, which only costs time."""


class Decoder:
    """Decodes records of one table for one caller.

    Args:
        parser: of the file's format.
        max_bytes: per record; only used in the error for a longer one.
        unknown_fields: what happens to fields that the table does not have.
    """

    def __init__(
        self,
        table: Table,
        parser: RecordParser,
        *,
        caller_role: str,
        max_bytes: int,
        unknown_fields: UnknownFields = UnknownFields.IGNORE,
    ) -> None:
        self._table = table
        self._parser = parser
        self._shape = shape_of(table)
        self._references = references_of(table)
        self._typed = ReferringRecords(table).decode if self._references else _without_keys(self._shape.record)
        self._key_fields = {each.column: (each, _key_field(each)) for each in self._references}
        self._unknown_fields = unknown_fields
        self._known = import_fields(table) | set(table.columns)
        self._forbidden = {} if caller_role == ADMIN else dict(self._shape.admin_only)
        self._keeps_text = table.refers_to_itself
        self._max_bytes = max_bytes

    def decode(self, raw: RawRecord) -> DecodedRecord:
        """Decode a record, or collect its errors.

        Raises:
            BrokenJson: the rest of the file cannot be read either.
        """
        entry = self._decoded(raw)
        if self._unknown_fields is UnknownFields.IGNORE or raw.data is None:
            return entry
        return self._with_unknown(entry, raw.data)

    def _decoded(self, raw: RawRecord) -> DecodedRecord:
        text = raw.data if self._keeps_text else None
        clean = None if raw.data is None else self._decode_clean(self._parser.as_json(raw.data))
        if clean is not None:
            record, keys = clean
            return DecodedRecord(raw.index, raw.offset, raw.size, record, (), text=text, keys=keys)
        record, errors, keys = self._decode_slowly(raw)
        is_unparsed = record is not None and any(map(has_unparsed, astuple(record)))
        return DecodedRecord(raw.index, raw.offset, raw.size, record, errors, is_unparsed, text, keys=keys)

    def _with_unknown(self, entry: DecodedRecord, data: bytes) -> DecodedRecord:
        """The entry with its unknown fields: noted, or as errors."""
        fields = self._parser.fields(entry.index, data)
        names = [] if isinstance(fields, RecordError) else [name for name in fields if name not in self._known]
        if not names or isinstance(fields, RecordError):
            return entry
        if self._unknown_fields is UnknownFields.WARN:
            return msgspec.structs.replace(entry, unknown=tuple(names))
        name = self._record_name(fields)
        message, code = f"{self._table.name} has no such field", ErrorCode.INVALID_RECORD_STRUCTURE
        errors = tuple(
            RecordError(entry.index, name, code, message, clipped(each), report_value(_value_of(fields[each])))
            for each in names
        )
        return msgspec.structs.replace(entry, errors=(*entry.errors, *errors))

    def _decode_clean(self, data: bytes | None) -> tuple[Any, Keys] | None:
        """The record and its keys if it is clean and allowed, otherwise None."""
        if data is None or _ESCAPED_NUL in data:
            return None
        if self._shape.has_signed_zero and _NEGATIVE_ZERO.search(data):
            return None
        try:
            if not data.isascii():
                data.decode()  # the typed decoder does not check the UTF-8 of unknown fields
            record, keys = self._typed(data)
        except (ValueError, RecursionError):
            return None
        if self._shape.is_clean is not None and not self._shape.is_clean(record):
            return None
        if self._forbidden and any(getattr(record, name) == value for name, value in self._forbidden.items()):
            return None
        return record, keys

    def _decode_slowly(self, raw: RawRecord) -> tuple[Any, tuple[RecordError, ...], Keys]:
        if raw.data is None:
            message = f"Record is longer than {self._max_bytes} bytes"
            details = {"bytes": raw.size, "limit": self._max_bytes}
            return None, (RecordError(raw.index, None, ErrorCode.FIELD_TOO_LONG, message, details=details),), ()
        fields = self._parser.fields(raw.index, raw.data)
        if isinstance(fields, RecordError):
            return None, (fields,), ()
        return self._apply_rules(raw.index, fields)

    def _apply_rules(self, index: int, fields: Fields) -> tuple[Any, tuple[RecordError, ...], Keys]:
        valid: dict[str, object] = {}
        keys: dict[str, object] = {}
        faults: list[tuple[str, Fault]] = []
        given: set[str] = set()
        for field in self._shape.fields:
            name, value = self._given(field, fields)
            if value is not msgspec.UNSET:
                given.add(field.name)
            if isinstance(value, Fault):
                faults.append((name, value))
            elif isinstance(value, _Key):
                keys[field.name] = value.value
            elif value is not msgspec.UNSET:
                valid[field.name] = value
        faults.extend(
            self._shape.check(valid, frozenset(given - {name for name, fault in faults if fault is _REQUIRED}))
        )
        record = self._shape.make(valid)
        found = tuple([keys.get(each.column, msgspec.UNSET) for each in self._references]) if keys else ()
        if not faults:
            return record, (), found
        record_name = self._record_name(fields)
        return record, tuple(self._error(index, record_name, field, fault, fields) for field, fault in faults), found

    def _given(self, field: ImportField, fields: Fields) -> tuple[str, object]:
        """What a record gives for a field, and by which name: a value or `_Key`, a `Fault`, or UNSET."""
        raw = fields.get(field.name)
        if field.name in self._key_fields:
            reference, key_field = self._key_fields[field.name]
            key = self._key(reference, key_field, fields.get(reference.name))
            if key is not msgspec.UNSET:
                if reference.name == field.name or self._is_absent(raw):
                    return reference.name, key
                fault = Fault(ErrorCode.INVALID_FIELD_FORMAT, f"must not be given together with {field.name}")
                return reference.name, fault
        return field.name, self._value(field, raw)

    def _is_absent(self, raw: msgspec.Raw | Unread | None) -> bool:
        if isinstance(raw, Unread):
            return False
        return raw is None or (bytes(raw) == b"null" and self._shape.null_is_absent)

    def _key(self, reference: ReferenceField, field: ImportField, raw: msgspec.Raw | Unread | None) -> object:
        """The `_Key` by which a field names a row, None if it names none, a `Fault`, or UNSET if it is absent."""
        if raw is None or self._is_absent(raw):
            return msgspec.UNSET
        text = bytes(raw.text if isinstance(raw, Unread) else raw)
        if reference.name == reference.column and not text.lstrip().startswith(b"{"):
            return msgspec.UNSET  # it is a value of the column itself
        if text == b"null":
            return None if reference.is_nullable else _REQUIRED
        try:
            members = _decode_members(text) if len(text) <= MAX_BUILT_BYTES else {}
        except (ValueError, RecursionError):
            members = {}
        if members.keys() != {reference.key.name} or bytes(members[reference.key.name]) == b"null":
            return Fault(ErrorCode.INVALID_FIELD_TYPE, f"must be {reference.form}")
        value = self._value(field, members[reference.key.name])
        if isinstance(value, Fault):
            return Fault(value.code, f"must be {reference.form}, but {reference.key.name} {value.text}")
        return _Key(value)

    def _value(self, field: ImportField, raw: msgspec.Raw | Unread | None) -> object:
        """The value of a field, a `Fault`, or UNSET if it is absent."""
        if isinstance(raw, Unread):
            return raw.fault
        if raw is None or self._is_absent(raw):
            return _REQUIRED if field.required else msgspec.UNSET
        if bytes(raw) == b"null":
            return None if field.nullable else _REQUIRED
        if field.typed is not None:
            text = _NEGATIVE_ZERO.sub(b"-0.0", bytes(raw)) if field.has_signed_zero else raw
            try:
                value = field.typed.decode(text)
            except (ValueError, RecursionError):
                value = msgspec.UNSET
            if value is not msgspec.UNSET and not _has_nul(value):
                return value
            raw = msgspec.Raw(bytes(text))
            if len(memoryview(raw)) > MAX_BUILT_BYTES and bytes(memoryview(raw)[:1]) == b"[":
                return _TOO_LARGE  # `read_value` would not build it
        try:
            value = field.rule(read_value(raw))
        except RecursionError:
            return Fault(ErrorCode.INVALID_FIELD_FORMAT, "is nested too deeply")
        if field.name in self._forbidden and value == self._forbidden[field.name]:
            return Fault(ErrorCode.FORBIDDEN, f"{value} may only be imported by an admin")
        return value

    def _record_name(self, fields: Fields) -> str | None:
        """A record's name in the report: the values of the first key that it has, as sent."""
        for unique in self._table.uniques:
            if unique.names_row and all(name in fields for name in unique.fields):
                values = [_value_of(fields[name]) for name in unique.fields]
                if all(isinstance(value, (int, str, Decimal)) and not isinstance(value, bool) for value in values):
                    return clipped(", ".join(str(value).strip() for value in values))
        return None

    def _error(self, index: int, name: str | None, field: str, fault: Fault, fields: Fields) -> RecordError:
        value = report_value(_value_of(fields[field])) if field in fields else None
        message = f"{self._table.label_of(field)} {fault.text}"
        return RecordError(index, name, fault.code, message, field, value)


class _Key(NamedTuple):
    """The key by which a record names a row of another table."""

    value: object


def _key_field(reference: ReferenceField) -> ImportField:
    rule = reference.rule
    typed = msgspec.json.Decoder(rule.typed) if rule.keeps is None else None  # else the rule judges every value
    return ImportField(reference.key.name, rule.rule, typed=typed)


def _without_keys(record: type[msgspec.Struct]) -> Callable[[bytes], tuple[Any, Keys]]:
    decode = msgspec.json.Decoder(record).decode
    return lambda data: (decode(data), ())


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TOO_LARGE = Fault(
    ErrorCode.INVALID_FIELD_FORMAT, f"must be a plain array if it has more than {MAX_BUILT_BYTES} bytes of JSON"
)
_REQUIRED = Fault(ErrorCode.MISSING_REQUIRED_FIELD, "is required")


def _has_nul(value: object) -> bool:
    """Whether a decoded value contains NUL, which PostgreSQL's text cannot."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, msgspec.Raw):
        return _NUL_IN_JSON.search(bytes(value)) is not None
    return isinstance(value, list) and any(map(_has_nul, value))


def _value_of(raw: msgspec.Raw | Unread) -> object:
    return read_value(raw.text if isinstance(raw, Unread) else raw)
