"""Turns one raw record into a record, or into everything that is wrong with it.

In: `RawRecord`. Out: `Entry`. One typed decode reads what is clean already; only a record that it refuses, or that is
not as the table keeps it (untrimmed, say), is looked at again, field by field, by the rules of its resource.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from wherry.errors import BrokenJson, ErrorCode
from wherry.imports.models import SHOWN_CHARACTERS, Entry, RawRecord, RecordError, clipped, label, shown
from wherry.resources.model import Resource
from wherry.resources.rules import Fault, OversizedNumber

ADMIN = "admin"
_ESCAPED_NUL = b"\\u0000"
MAX_BUILT_BYTES = 1 << 20
"""A longer array or object is not built, unless it is of strings."""

_LOOKED_AT = 4 * SHOWN_CHARACTERS  # bytes: as many as 1,000 characters can take


class Decoder:
    """Decodes records of one resource for one caller.

    Args:
        resource: what the records are.
        caller_role: the role of the account that imports.
        max_bytes: what a longer record's error names as the limit.
        stop_at_broken_syntax: raise `BrokenJson` instead of reporting it on the record.
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

    def decode(self, raw: RawRecord) -> Entry:
        """A record, or its errors.

        Raises:
            BrokenJson: the text is not JSON, and the decoder was asked to stop there.
        """
        record = self._decode_clean(raw.data)
        if record is None:
            record, errors = self._decode_slowly(raw)
            return Entry(raw.index, raw.offset, raw.size, record, errors)
        return Entry(raw.index, raw.offset, raw.size, record, ())

    def _decode_clean(self, data: bytes | None) -> Any:
        """The record where it is clean and allowed, else None."""
        if data is None or _ESCAPED_NUL in data:
            return None
        try:
            if not data.isascii():
                data.decode()  # the typed decoder does not look into fields that it skips
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
        """The values of the fields that the resource knows, as JSON has them; unknown ones are not even built."""
        try:
            text = data.decode()
            msgspec.json.decode(data, type=msgspec.Raw)  # the whole syntax, and nothing but it
            if not text.lstrip().startswith("{"):
                message = "Record must be a JSON object"
                value = shown(read_value(data))
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
    """What the report calls a record: its id, else its natural key, else nothing."""
    for name in ("id", resource.natural_key):
        value = fields.get(name)
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return clipped(str(value).strip())
    return None


def _error(index: int, name: str | None, field: str, fault: Fault, fields: dict[str, object]) -> RecordError:
    value = shown(fields.get(field))
    return RecordError(index, name, fault.code, f"{label(field)} {fault.text}", field, value)


def read_value(raw: bytes | msgspec.Raw) -> object:
    """A JSON value as Python has it; a number that Python's types cannot hold as `OversizedNumber`.

    No field takes an object, or an array of anything but strings: of a large one only that is told, as the millions of
    values that it may have would take twenty times its size.
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
    """An array of strings; in place of any other, one that is as wrong."""
    try:
        return list(msgspec.json.decode(text, type=list[str]))
    except msgspec.ValidationError:
        return [[]]


def _is_json_but_for_surrogates(text: str) -> bool:
    """Whether a text that the strict decoder refused is one that a decoder which lets them through accepts."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
