"""Decodes a raw record, or finds everything that is wrong with it.

A clean record is decoded in a single, typed step. A record that this step refuses, or whose values need to be
normalised (trimmed, for example), is decoded again, field by field, by the rules of its table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
from wherry.tables.derivation import known_fields, references_of, shape_of
from wherry.tables.model import ReferenceField, Table
from wherry.tables.shape import ImportField
from wherry.tables.values import Fault, has_unparsed

_BACKSLASH = 0x5C
_ESCAPED_NUL = b"\\u0000"
_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NEGATIVE_ZERO = re.compile(rb"(?<![\w.+\-\"])-0(?![\w.])")
"""In a number or an array of numbers. In other texts it may find more, which only costs time."""


MAX_UNKNOWN = 100
"""The most unknown fields of one record that are reported."""


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
        self._typed = msgspec.json.Decoder(self._shape.record).decode
        self._exact: Callable[[bytes], Any] | None = None
        """Decodes records without other fields, and so without keys, until it fails the first time."""
        self._references = references_of(table)
        self._referring = ReferringRecords(table) if self._references else None
        # A field that may be a column's value as well as a key can be an object in both cases.
        if self._referring is not None and not any(each.name == each.column for each in self._references):
            exact = msgspec.defstruct(
                "Record", [], bases=(self._shape.record,), forbid_unknown_fields=True, kw_only=True
            )
            self._exact = msgspec.json.Decoder(exact).decode
        self._key_fields = {each.column: (each, _key_field(each)) for each in self._references}
        self._converts = parser.converts
        self._notes_unknown = unknown_fields is not UnknownFields.IGNORE
        self._unknown_fields = unknown_fields
        self._known = known_fields(table)
        self._forbidden = {} if caller_role == ADMIN else dict(self._shape.admin_only)
        self._keeps_text = table.refers_to_itself
        self._max_bytes = max_bytes

    def prepared(self, raws: Iterator[RawRecord]) -> Iterator[RawRecord]:
        """The same records, some of which may be converted already."""
        return self._parser.converted(raws)

    def decode(self, raw: RawRecord) -> DecodedRecord:
        """Decode a record, or collect its errors.

        Raises:
            BrokenJson: the rest of the file cannot be read either.
        """
        data, record = raw.data, raw.record
        if record is None or not self._is_allowed(record):
            if self._converts and data is not None:
                data = raw.json if raw.json is not None else self._parser.as_json(data)
            record = self._decode_clean(data)
        if record is not None:
            text = raw.data if self._keeps_text else None
            entry = DecodedRecord(raw.index, raw.offset, raw.size, record, (), False, text)
        else:
            entry = self._decode_keys(raw, data) or self._decode_slowly(raw)
        if self._notes_unknown and raw.data is not None:
            return self._with_unknown(entry, raw.data)
        return entry

    def _with_unknown(self, entry: DecodedRecord, data: bytes) -> DecodedRecord:
        """The entry with its unknown fields: noted, or as errors."""
        fields = self._parser.fields(entry.index, data)
        names = [] if isinstance(fields, RecordError) else [name for name in fields if name not in self._known]
        if not names or isinstance(fields, RecordError):
            return entry
        if self._unknown_fields is UnknownFields.WARN:
            return msgspec.structs.replace(entry, unknown=tuple(names[:MAX_UNKNOWN]))
        name = self._record_name(fields)
        message, code = f"{self._table.name} has no such field", ErrorCode.INVALID_RECORD_STRUCTURE
        errors = tuple(
            RecordError(entry.index, name, code, message, clipped(each), report_value(_value_of(fields[each])))
            for each in names[:MAX_UNKNOWN]
        )
        return msgspec.structs.replace(entry, errors=(*entry.errors, *errors))

    def _decode_clean(self, data: bytes | None) -> Any:
        """The record if it is clean and allowed, and names no rows by keys; otherwise None."""
        if data is None:
            return None
        try:
            record = self._typed(data) if self._referring is None else self._without_keys(data, self._referring)
        except (ValueError, RecursionError):
            return None
        return record if record is None or self._is_clean(data, record) else None

    def _without_keys(self, data: bytes, referring: ReferringRecords) -> Any:
        if self._exact is not None:
            try:
                return self._exact(data)
            except (ValueError, RecursionError):
                self._exact = None  # the file may have many records that it does not decode
        return None if referring.may_have_keys(data) else self._typed(data)

    def _decode_keys(self, raw: RawRecord, data: bytes | None) -> DecodedRecord | None:
        """A record that is clean and allowed, and names rows by keys; otherwise None."""
        if self._referring is None or data is None:
            return None
        try:
            record, keys = self._referring.decode(data)
        except (ValueError, RecursionError):
            return None
        if not self._is_clean(data, record):
            return None
        text = raw.data if self._keeps_text else None
        return DecodedRecord(raw.index, raw.offset, raw.size, record, (), text=text, keys=keys)

    def _is_clean(self, data: bytes, record: Any) -> bool:
        """Whether a record that the typed decoder accepted is allowed, and needs no change by the rules."""
        if self._shape.has_signed_zero and _NEGATIVE_ZERO.search(data):
            return False
        # What a parser has converted is valid, without unknown fields, which the typed decoder does not check.
        if not self._converts:
            # A single byte is found ten times as fast as several.
            if _BACKSLASH in data and _ESCAPED_NUL in data:
                return False
            if not (data.isascii() or _is_utf8(data)):
                return False
        return self._is_allowed(record)

    def _is_allowed(self, record: Any) -> bool:
        if self._shape.is_clean is not None and not self._shape.is_clean(record):
            return False
        return not (self._forbidden and any(getattr(record, name) == value for name, value in self._forbidden.items()))

    def _decode_slowly(self, raw: RawRecord) -> DecodedRecord:
        record, errors, keys = self._judged(raw)
        is_unparsed = record is not None and any(map(has_unparsed, astuple(record)))
        text = raw.data if self._keeps_text else None
        return DecodedRecord(raw.index, raw.offset, raw.size, record, errors, is_unparsed, text, keys=keys)

    def _judged(self, raw: RawRecord) -> tuple[Any, tuple[RecordError, ...], Keys]:
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
            # In a table of cells, a field that is not given is null.
            is_empty = self._converts and raw is not None and not isinstance(raw, Unread) and bytes(raw) == b"null"
            if key is None and self._converts and not self._is_absent(raw) and not is_empty:
                key = msgspec.UNSET
            if key is not msgspec.UNSET:
                if reference.name == field.name or is_empty or self._is_absent(raw):
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


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


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
