"""Reads the values of keys and references from records."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias, cast

from msgspec import UNSET, Raw
from msgspec.structs import astuple

from wherry.imports.models import DecodedRecord, clipped
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table

Token: TypeAlias = Hashable
"""Stands for the values of a unique index: equal tokens stand for equal values. None if the record does not give them.
"""


@lru_cache(maxsize=4096)
def token_reader(table: Table, fields: tuple[str, ...]) -> Callable[[Sequence[Any]], Token]:
    """Reads the token of these fields from a record as a tuple."""
    positions = shape_of(table).places
    if not fields or any(name not in positions for name in fields):
        return lambda values: None
    places = [positions[name] for name in fields]
    if len(places) == 1:
        place = places[0]
        return lambda values: hashable(values[place])

    def read(values: Sequence[Any]) -> Token:
        parts = tuple([hashable(values[place]) for place in places])
        return None if None in parts else parts

    return read


def hashable(value: Any) -> Hashable:
    """A value itself, or a text that stands for it; None if it is absent."""
    if value is UNSET:
        return None
    if value.__class__ is Raw:
        return _text_of(value)
    if value.__class__ is Decimal and value.is_snan():
        return "sNaN"  # which has no hash; PostgreSQL refuses it
    return repr(value) if value.__class__ is list else cast(Hashable, value)


def _text_of(json: Raw) -> str | None:
    text = bytes(json)
    return None if text == b"null" else text.decode()


def value_of(table: Table, entry: DecodedRecord, field: str) -> Any:
    """What a record has in a field; None if it is absent. JSON is returned as its text."""
    places = shape_of(table).places
    if entry.record is None or field not in places:
        return None
    value = astuple(entry.record)[places[field]]
    return None if value is UNSET else _text_of(value) if value.__class__ is Raw else value


def entry_name(table: Table, entry: DecodedRecord) -> str | None:
    """What the report calls a record. All errors of a record name it in the same way: as sent, not as normalised."""
    return entry.errors[0].record_id if entry.errors else name_of(table, entry.record)


def name_of(table: Table, record: Any) -> str | None:
    """A record's name in the report: the values of the first key that it has."""
    values = astuple(record)
    for unique in table.uniques:
        if unique.names_row and (token := token_reader(table, unique.fields)(values)) is not None:
            return clipped(", ".join(map(str, token)) if isinstance(token, tuple) else str(token))
    return None
