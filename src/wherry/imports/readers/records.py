"""Reads the fields of a record that is a JSON object."""

from __future__ import annotations

import json

import msgspec

from wherry.errors import BrokenJson, ErrorCode
from wherry.imports.json_values import read_value
from wherry.imports.models import RecordError, clipped, report_value
from wherry.imports.readers.model import Fields, RecordParser, not_utf8

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonParser(RecordParser):
    """Parses records that are JSON.

    Args:
        stops_at_broken_syntax: whether the rest of the file cannot be read after a record that is not JSON.
    """

    converts = False

    def __init__(self, *, stops_at_broken_syntax: bool = False) -> None:
        self._stops = stops_at_broken_syntax

    def as_json(self, data: bytes) -> bytes | None:
        return data

    def fields(self, index: int, data: bytes) -> Fields | RecordError:
        try:
            text = data.decode()
            msgspec.json.decode(data, type=msgspec.Raw)  # checks the syntax of the whole record, without building it
            if not text.lstrip().startswith("{"):
                message = "Record must be a JSON object"
                value = report_value(read_value(data))
                return RecordError(index, None, ErrorCode.INVALID_RECORD_STRUCTURE, message, value=value)
            return _decode(data)
        except UnicodeDecodeError:
            return not_utf8(index, data)
        except RecursionError:
            message, value = "Record is nested too deeply", clipped(text)
            return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=value)
        except msgspec.DecodeError as error:
            return self._broken(index, text, error)

    def _broken(self, index: int, text: str, error: msgspec.DecodeError) -> RecordError:
        if _is_json_but_for_surrogates(text):
            message = "Record contains an unpaired surrogate, which UTF-8 cannot represent"
            return RecordError(index, None, ErrorCode.ENCODING_ERROR, message, value=clipped(text))
        if self._stops:
            raise BrokenJson(f"Record {index} is not valid JSON: {error}") from error
        message = f"Record is not valid JSON: {error}"
        return RecordError(index, None, ErrorCode.PARSE_ERROR, message, value=clipped(text))


def _is_json_but_for_surrogates(text: str) -> bool:
    """Whether a text that the strict decoder refused is valid JSON except for unpaired surrogates."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
