"""Describes what is wrong with a JSON body, by field.

Litestar reports only the first fault; this checks every field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Request

from wherry.http.requests import decoded_body

ENVELOPES = frozenset({"user", "import", "export", "apiToken"})
"""Members that only wrap the fields of a request. They are left out of field names."""

MAX_FAULTS = 20
_EXPECTED = re.compile(r"^Expected `([^`]+)`( [<>]=? \S+)?")
_INVALID = re.compile(r"^Invalid (?:enum value (?P<value>.+)|(?P<noun>.+))$")
_PLACE = re.compile(r" - at `[^`]*`$")
_NOUNS: Mapping[str, str] = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a date-time",
    "null": "null",
}

Fields = dict[str, list[str]]


def body_faults(request: Request[Any, Any, Any]) -> Fields:
    """All faults of a JSON body, compared with the type that its route declares."""
    declared = request.route_handler.parsed_data_field
    if declared is None:
        return {}
    found: Fields = {}
    for place, message in _faults(decoded_body(request.scope), declared.annotation, ()):
        found.setdefault(_name(place), []).append(message)
        if len(found) == MAX_FAULTS:
            break
    return found


def in_words(message: str) -> str:
    """Turn msgspec's message about an invalid value into one that says what the value must be."""
    expected = _EXPECTED.match(message)
    if expected is None:
        plain = _PLACE.sub("", message)
        invalid = _INVALID.match(plain)
        if invalid is None:
            return plain
        return f"must not be {invalid['value']}" if invalid["value"] else f"must be a valid {invalid['noun']}"
    nouns = [_NOUNS.get(part.strip(), part.strip()) for part in expected[1].split("|")]
    return f"must be {' or '.join(nouns)}{expected[2] or ''}"


def _faults(value: object, expected: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    try:
        msgspec.convert(value, expected, strict=False)
    except msgspec.ValidationError as error:
        inner = list(_inside(value, expected, place))
        if inner:
            yield from inner
        else:
            yield place, in_words(str(error))


def _inside(value: object, expected: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    members = get_args(expected) if isinstance(expected, UnionType) else (expected,)
    shape = next(filter(_has_fields, members), None)
    if not isinstance(value, dict) or shape is None:
        return
    types = get_type_hints(shape, include_extras=True)
    for member in msgspec.inspect.type_info(shape).fields:  # type: ignore[attr-defined]
        where = (*place, member.encode_name)
        if member.encode_name in value:
            yield from _faults(value[member.encode_name], types[member.name], where)
        elif member.required:
            yield where, "is required"


def _has_fields(expected: Any) -> bool:
    return isinstance(expected, type) and (issubclass(expected, msgspec.Struct) or is_dataclass(expected))


def _name(place: tuple[str, ...]) -> str:
    inner = place[1:] if len(place) > 1 and place[0] in ENVELOPES else place
    return ".".join(inner) or "body"
