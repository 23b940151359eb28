"""Decodes a raw record, or finds everything that is wrong with it.

A clean record is decoded in a single, typed step. A record that this step refuses, or whose values need to be
normalised (trimmed, for example), is decoded again, field by field, by the rules of its table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec.structs import astuple

from wherry.errors import BrokenJson, ErrorCode
from wherry.imports.models import (
    REPORTED_CHARACTERS,
    DecodedRecord,
    RawRecord,
    RecordError,
    clipped,
    report_value,
)
from wherry.tables.builtin.users import ADMIN
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table
from wherry.tables.shape import ImportField
from wherry.tables.values import Fault, OversizedNumber, has_unparsed

_ESCAPED_NUL = b"\\u0000"
_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NEGATIVE_ZERO = re.compile(rb"(?<![\w.+\-\"])-0(?![\w.])")
"""In a number or an array of numbers. In other texts it may find more, which only costs time."""
MAX_BUILT_BYTES = 1 << 20
"""Arrays and objects with a longer text are not built, except for arrays of strings."""

MAX_EXPONENT = 1000

_LOOKED_AT = 4 * REPORTED_CHARACTERS  # bytes: the most that 1,000 characters can take


class Decoder:
    """Decodes records of one table for one caller.

    Args:
        max_bytes: per record; only used in the error for a longer one.
        stop_at_broken_syntax: whether to raise `BrokenJson` instead of reporting it as the record's error.
    """

    def __init__(self, table: Table, *, caller_role: str, max_bytes: int, stop_at_broken_syntax: bool = False) -> None:
        self._table = table
        self._shape = shape_of(table)
        self._typed = msgspec.json.Decoder(self._shape.record)
        self._raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._forbidden = {} if caller_role == ADMIN else dict(self._shape.admin_only)
        self._keeps_text = table.refers_to_itself
        self._max_bytes = max_bytes
        self._stop = stop_at_broken_syntax

    def decode(self, raw: RawRecord) -> DecodedRecord:
        """Decode a record, or collect its errors.

        Raises:
            BrokenJson: the text is not JSON, and `stop_at_broken_syntax` is set.
        """
        text = raw.data if self._keeps_text else None
        record = self._decode_clean(raw.data)
        if record is not None:
            return DecodedRecord(raw.index, raw.offset, raw.size, record, (), text=text)
        record, errors = self._decode_slowly(raw)
        is_unparsed = record is not None and any(map(has_unparsed, astuple(record)))
        return DecodedRecord(raw.index, raw.offset, raw.size, record, errors, is_unparsed, text)

    def _decode_clean(self, data: bytes | None) -> Any:
        """The record if it is clean and allowed, otherwise None."""
        if data is None or _ESCAPED_NUL in data:
            return None
        if self._shape.has_signed_zero and _NEGATIVE_ZERO.search(data):
            return None
        try:
            if not data.isascii():
                data.decode()  # the typed decoder does not check the UTF-8 of unknown fields
            record = self._typed.decode(data)
        except (ValueError, RecursionError):
            return None
        if self._shape.is_clean is not None and not self._shape.is_clean(record):
            return None
        if self._forbidden and any(getattr(record, name) == value for name, value in self._forbidden.items()):
            return None
        return record

    def _decode_slowly(self, raw: RawRecord) -> tuple[Any, tuple[RecordError, ...]]:
        if raw.data is None:
            message = f"Record is longer than {self._max_bytes} bytes"
            details = {"bytes": raw.size, "limit": self._max_bytes}
            return None, (RecordError(raw.index, None, ErrorCode.FIELD_TOO_LONG, message, details=details),)
        fields = self._read_fields(raw.index, raw.data)
        if isinstance(fields, RecordError):
            return None, (fields,)
        return self._apply_rules(raw.index, fields)

    def _read_fields(self, index: int, data: bytes) -> dict[str, msgspec.Raw] | RecordError:
        """The JSON of the table's fields. Unknown fields are left out."""
        try:
            text = data.decode()
            msgspec.json.decode(data, type=msgspec.Raw)  # checks the syntax of the whole record, without building it
            if not text.lstrip().startswith("{"):
                message = "Record must be a JSON object"
                value = report_value(read_value(data))
                return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=value)
            raw_fields = self._raw_fields.decode(data)
            names = (field.name for field in self._shape.fields)
            return {name: raw_fields[name] for name in names if name in raw_fields}
        except UnicodeDecodeError:
            message, value = "Record is not valid UTF-8", clipped(data[:_LOOKED_AT].decode(errors="replace"))
            return RecordError(index, None, ErrorCode.ENCODING_ERROR, message, value=value)
        except RecursionError:
            message, value = "Record is nested too deeply", clipped(text)
            return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=value)
        except msgspec.DecodeError as error:
            return self._broken(index, text, error)

    def _broken(self, index: int, text: str, error: msgspec.DecodeError) -> RecordError:
        if _is_json_but_for_surrogates(text):
            message = "Record contains an unpaired surrogate, which UTF-8 cannot represent"
            return RecordError(index, None, ErrorCode.ENCODING_ERROR, message, value=clipped(text))
        if self._stop:
            raise BrokenJson(f"Record {index} is not valid JSON: {error}") from error
        message = f"Record is not valid JSON: {error}"
        return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=clipped(text))

    def _apply_rules(self, index: int, fields: dict[str, msgspec.Raw]) -> tuple[Any, tuple[RecordError, ...]]:
        valid: dict[str, object] = {}
        faults: list[tuple[str, Fault]] = []
        given: set[str] = set()
        for field in self._shape.fields:
            value = self._value(field, fields.get(field.name))
            if value is not msgspec.UNSET:
                given.add(field.name)
            if isinstance(value, Fault):
                faults.append((field.name, value))
            elif value is not msgspec.UNSET:
                valid[field.name] = value
        faults.extend(
            self._shape.check(valid, frozenset(given - {name for name, fault in faults if fault is _REQUIRED}))
        )
        record = self._shape.make(valid)
        if not faults:
            return record, ()
        name = self._record_name(fields)
        return record, tuple(self._error(index, name, field, fault, fields) for field, fault in faults)

    def _value(self, field: ImportField, raw: msgspec.Raw | None) -> object:
        """The value of a field, a `Fault`, or UNSET if it is absent."""
        if raw is None or (bytes(raw) == b"null" and self._shape.null_is_absent):
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

    def _record_name(self, fields: Mapping[str, msgspec.Raw]) -> str | None:
        """A record's name in the report: the values of the first key that it has, as sent."""
        for unique in self._table.uniques:
            if unique.names_row and all(name in fields for name in unique.fields):
                values = [read_value(fields[name]) for name in unique.fields]
                if all(isinstance(value, (int, str, Decimal)) and not isinstance(value, bool) for value in values):
                    return clipped(", ".join(str(value).strip() for value in values))
        return None

    def _error(
        self, index: int, name: str | None, field: str, fault: Fault, fields: Mapping[str, msgspec.Raw]
    ) -> RecordError:
        value = report_value(read_value(fields[field])) if field in fields else None
        message = f"{self._table.columns[field].label} {fault.text}"
        return RecordError(index, name, fault.code, message, field, value)


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


def _number(text: str) -> object:
    """A number with all of its digits. PostgreSQL could not store one with a far larger exponent in a report."""
    try:
        number = Decimal(text)
    except InvalidOperation:  # the exponent is too large even for Python
        return OversizedNumber(text)
    return number if abs(number.adjusted()) < MAX_EXPONENT else OversizedNumber(text)


_any_value = msgspec.json.Decoder(float_hook=_number)


def read_value(raw: bytes | msgspec.Raw) -> object:
    """Decode a JSON value; a number that fits no Python type becomes an `OversizedNumber`.

    A large object, or array of anything but strings, is replaced by a small one: no field of a built-in table accepts
    either, and the millions of values in it could take twenty times the size of their text.
    """
    if len(text := memoryview(raw)) > MAX_BUILT_BYTES:
        match bytes(text[:_LOOKED_AT]).lstrip()[:1]:
            case b"{":
                return {}
            case b"[":
                return _strings(text)
    try:
        return _any_value.decode(raw)
    except msgspec.ValidationError:
        return json.loads(bytes(raw), parse_int=OversizedNumber, parse_float=OversizedNumber)


def _strings(text: memoryview) -> list[Any]:
    """An array of strings; any other array is replaced by a small one that is just as invalid."""
    try:
        return list(msgspec.json.decode(text, type=list[str]))
    except msgspec.ValidationError:
        return [[]]


def _is_json_but_for_surrogates(text: str) -> bool:
    """Whether a text that the strict decoder refused is valid JSON except for unpaired surrogates."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
