"""Decodes a raw record, or finds everything that is wrong with it.

A clean record is decoded in a single, typed step. A record that this step refuses, or whose values need to be
normalised (trimmed, for example), is decoded again, field by field, by the rules of its resource.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from wherry.errors import BrokenJson, ErrorCode
from wherry.imports.models import (
    REPORTED_CHARACTERS,
    DecodedRecord,
    RawRecord,
    RecordError,
    clipped,
    label,
    report_value,
)
from wherry.resources.model import Resource
from wherry.resources.rules import Fault, OversizedNumber
from wherry.resources.users import ADMIN

_ESCAPED_NUL = b"\\u0000"
MAX_BUILT_BYTES = 1 << 20
"""Arrays and objects with a longer text are not built, except for arrays of strings."""

_LOOKED_AT = 4 * REPORTED_CHARACTERS  # bytes: the most that 1,000 characters can take


class Decoder:
    """Decodes records of one resource for one caller.

    Args:
        max_bytes: per record; only used in the error for a longer one.
        stop_at_broken_syntax: whether to raise `BrokenJson` instead of reporting it as the record's error.
    """

    def __init__(
        self, resource: Resource, *, caller_role: str, max_bytes: int, stop_at_broken_syntax: bool = False
    ) -> None:
        self._resource = resource
        self._shape = resource.shape
        self._typed = msgspec.json.Decoder(resource.shape.record)
        self._raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._forbidden = {} if caller_role == ADMIN else dict(resource.shape.admin_only)
        self._max_bytes = max_bytes
        self._stop = stop_at_broken_syntax

    def decode(self, raw: RawRecord) -> DecodedRecord:
        """Decode a record, or collect its errors.

        Raises:
            BrokenJson: the text is not JSON, and `stop_at_broken_syntax` is set.
        """
        record = self._decode_clean(raw.data)
        if record is None:
            record, errors = self._decode_slowly(raw)
            return DecodedRecord(raw.index, raw.offset, raw.size, record, errors)
        return DecodedRecord(raw.index, raw.offset, raw.size, record, ())

    def _decode_clean(self, data: bytes | None) -> Any:
        """The record if it is clean and allowed, otherwise None."""
        if data is None or _ESCAPED_NUL in data:
            return None
        try:
            if not data.isascii():
                data.decode()  # the typed decoder does not check the UTF-8 of unknown fields
            record = self._typed.decode(data)
        except (ValueError, RecursionError):
            return None
        if not self._shape.is_clean(record):
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

    def _read_fields(self, index: int, data: bytes) -> dict[str, object] | RecordError:
        """The JSON values of the resource's fields. Values of unknown fields are never built."""
        try:
            text = data.decode()
            msgspec.json.decode(data, type=msgspec.Raw)  # checks the syntax of the whole record, without building it
            if not text.lstrip().startswith("{"):
                message = "Record must be a JSON object"
                value = report_value(read_value(data))
                return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=value)
            raw_fields = self._raw_fields.decode(data)
            names = (field.name for field in self._shape.fields)
            return {name: read_value(raw_fields[name]) for name in names if name in raw_fields}
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

    def _apply_rules(self, index: int, fields: dict[str, object]) -> tuple[Any, tuple[RecordError, ...]]:
        given = frozenset(name for name, value in fields.items() if value is not None)
        values: dict[str, object] = {}
        faults: list[tuple[str, Fault]] = []
        for field in self._shape.fields:
            if field.name not in given:
                if field.required:
                    faults.append((field.name, Fault(ErrorCode.MISSING_REQUIRED_FIELD, "is required")))
                continue
            value = self._allowed(field.name, field.rule(fields[field.name]))
            if isinstance(value, Fault):
                faults.append((field.name, value))
            else:
                values[field.name] = value
        faults.extend(self._shape.check(values, given))
        record = self._shape.record(**{field.name: values.get(field.name) for field in self._shape.fields})
        if not faults:
            return record, ()
        name = record_name(self._resource, fields)
        return record, tuple(_error(index, name, field_name, fault, fields) for field_name, fault in faults)

    def _allowed(self, name: str, value: object) -> object:
        if name in self._forbidden and value == self._forbidden[name]:
            return Fault(ErrorCode.FORBIDDEN, f"{value} may only be imported by an admin")
        return value


def record_name(resource: Resource, fields: dict[str, object]) -> str | None:
    """A record's name in the report: its id, else its natural key, else None."""
    for name in ("id", resource.natural_key):
        value = fields.get(name)
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return clipped(str(value).strip())
    return None


def _error(index: int, name: str | None, field: str, fault: Fault, fields: dict[str, object]) -> RecordError:
    value = report_value(fields.get(field))
    return RecordError(index, name, fault.code, f"{label(field)} {fault.text}", field, value)


def read_value(raw: bytes | msgspec.Raw) -> object:
    """Decode a JSON value; a number that fits no Python type becomes an `OversizedNumber`.

    A large object, or array of anything but strings, is replaced by a small one: no field accepts either, and the
    millions of values in it could take twenty times the size of their text.
    """
    if len(text := memoryview(raw)) > MAX_BUILT_BYTES:
        match bytes(text[:_LOOKED_AT]).lstrip()[:1]:
            case b"{":
                return {}
            case b"[":
                return _strings(text)
    try:
        return msgspec.json.decode(raw)
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
