"""Reads the values of keys and references from records."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias, cast

from msgspec import UNSET, Raw
from msgspec.structs import astuple

from wherry.imports.models import DecodedRecord, clipped
from wherry.tables.derivation import references_of, shape_of
from wherry.tables.model import ReferenceField, Table

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


def key_given(table: Table, entry: DecodedRecord, column: str) -> tuple[ReferenceField, Any] | None:
    """The reference by which a record gives a column, and its key; None if it does not give the column by a key."""
    given = zip(references_of(table), entry.keys, strict=False)
    return next(((each, key) for each, key in given if each.column == column and key is not UNSET), None)


def unknown_key(table: Table, reference: ReferenceField, key: Any) -> str:
    """The message for a key that no row has."""
    target = reference.target.name if table.is_built_in else reference.target
    return f"{reference.label} with the {reference.key.name} {clipped(str(key))} does not exist in {target}"


def labels_of(table: Table, entry: DecodedRecord, columns: Iterable[str]) -> str:
    """What messages call the fields by which a record gives some columns."""
    given = ((key_given(table, entry, name), name) for name in columns)
    return ", ".join(table.columns[name].label if by is None else by[0].label for by, name in given)


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
