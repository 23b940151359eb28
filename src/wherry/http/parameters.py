"""Reads the parameters of queries and forms by the same rules on every route.

A Struct declares the parameters of a query; `read_query` parses them, and `described` documents them.

An empty query parameter counts as absent. Objects and arrays may be written in brackets, as many client libraries do:
`fields[]=id&fields[]=slug`, `filters[authorId]=100`, `filters[createdAt][gte]=2026-01-01`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import inspect

from wherry.errors import Invalid
from wherry.texts import SHOWN_CHARACTERS, whole_number

MAX_UNKNOWN = 20
"""The most unknown names that an error lists."""

_ARRAY_ITEM = re.compile(r"(\w+)\[[0-9]{0,4}\]")
_OBJECT_MEMBER = re.compile(r"\[([^\[\]]+)\]")

Shape = TypeVar("Shape", bound=msgspec.Struct)


def once(given: Mapping[str, Sequence[str]], names: Iterable[str]) -> dict[str, str]:
    """The values of the parameters in `names` that are given; other parameters are ignored.

    Raises:
        Invalid: on every name that is given more than once.
    """
    found = {name: given[name] for name in names if given.get(name)}
    refuse_repeated(name for name, values in found.items() if len(values) > 1)
    return {name: values[0] for name, values in found.items()}


def refuse_repeated(names: Iterable[str]) -> None:
    """Refuse these names, if there are any, because they are given more than once."""
    _refuse({name: f"{name} must be given once" for name in names})


def _refuse(faults: Mapping[str, str]) -> None:
    if faults:
        raise Invalid("; ".join(faults.values()), fields={name: [message] for name, message in faults.items()})


def query_of(request: Request[Any, Any, Any]) -> dict[str, list[str]]:
    """The query: each name with every value that is not empty; `fields[]` and `fields[0]` count as `fields`."""
    found: dict[str, list[str]] = {}
    for name, value in request.query_params.items():
        item = _ARRAY_ITEM.fullmatch(name)
        if value:
            found.setdefault(item[1] if item else name, []).append(value)
    return found


def object_in(query: Mapping[str, Sequence[str]], name: str) -> object:
    """The parameter's JSON text, or the object built from `name[member]=value` parameters; None if there are neither.

    Raises:
        Invalid: it is written in both ways, a member is given twice, or brackets are nested more than two deep.
    """
    members = {given: values for given, values in query.items() if given.startswith(f"{name}[")}
    texts = query.get(name, [])
    if len(texts) + bool(members) > 1:
        raise Invalid(f"{name} must be given once", field=name)
    if not members:
        return texts[0] if texts else None
    found: dict[str, Any] = {}
    for given, values in members.items():
        *parents, last = _path(given, name)
        place: Any = found
        for parent in parents:
            place = place.setdefault(parent, {})
        if len(values) > 1 or not isinstance(place, dict) or last in place:
            raise Invalid(f"{given[:SHOWN_CHARACTERS]} must be given once", field=name)
        place[last] = values[0]
    return found


def _path(given: str, name: str) -> list[str]:
    brackets = given.removeprefix(name)
    path = _OBJECT_MEMBER.findall(brackets)
    if not 0 < len(path) <= 2 or "".join(f"[{part}]" for part in path) != brackets:
        raise Invalid(
            f"{name} must be a JSON object, or {name}[member]=value (got {given[:SHOWN_CHARACTERS]})", field=name
        )
    return path


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that a route does not know, so that a misspelled `dryRun` cannot start a real import.

    Raises:
        Invalid: on every unknown name, with the nearest known one.
    """
    unknown = list(dict.fromkeys(name[:SHOWN_CHARACTERS] for name in given if name not in known))[:MAX_UNKNOWN]
    _refuse({name: f"{name} is not a known parameter{_advice(name, known)}" for name in unknown})


def _advice(name: str, known: Collection[str]) -> str:
    spellings = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower().replace("_", "").replace("-", ""), spellings, 1)
    return f"; did you mean {spellings[nearest[0]]}?" if nearest else f"; those are {', '.join(sorted(known))}"


def read_query(request: Request[Any, Any, Any], shape: type[Shape]) -> Shape:
    """The parameters that a Struct declares; others are ignored.

    Raises:
        Invalid: a parameter is given more than once, or its value is invalid.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    given = once(query_of(request), fields)
    return shape(**{fields[name].name: _read(name, text, _kind(fields[name].type)) for name, text in given.items()})


def _kind(annotation: Any) -> inspect.Type:
    """The type of a parameter without its description and without None."""
    kind = inspect.type_info(annotation)
    while isinstance(kind, (inspect.Metadata, inspect.UnionType)):
        kind = kind.type if isinstance(kind, inspect.Metadata) else kind.types[0]
    return kind


def _read(name: str, text: str, kind: inspect.Type) -> object:
    parse: Callable[[str], object]
    if isinstance(kind, inspect.IntType):
        return _read_integer(name, text, kind)
    if isinstance(kind, inspect.EnumType):
        parse, expected = kind.cls, f"one of {', '.join(choice.value for choice in kind.cls)}"
    elif isinstance(kind, inspect.UUIDType):
        parse, expected = UUID, "a UUID"
    else:
        return text
    try:
        return parse(text)
    except ValueError as error:
        raise Invalid(f"{name} must be {expected}", field=name) from error


def _read_integer(name: str, text: str, kind: inspect.IntType) -> int:
    """An integer within its bounds, written as digits only: `1e3` and `1.0` are refused."""
    number = whole_number(text)
    least = kind.ge or 0
    if number is None or number < least or (kind.le is not None and number > kind.le):
        bounds = f"of at least {least}" if kind.le is None else f"from {least} to {kind.le}"
        raise Invalid(f"{name} must be an integer {bounds}", field=name)
    return number
