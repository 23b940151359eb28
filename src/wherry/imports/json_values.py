"""Decodes single JSON values, within limits."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from wherry.imports.models import LOOKED_AT
from wherry.tables.values import OversizedNumber

MAX_BUILT_BYTES = 1 << 20
"""Arrays and objects with a longer text are not built, except for arrays of strings."""

MAX_EXPONENT = 1000


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
        match bytes(text[:LOOKED_AT]).lstrip()[:1]:
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
