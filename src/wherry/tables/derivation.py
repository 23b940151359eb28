"""Derives from a table's columns how its records are imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import astuple

from wherry.tables.model import Column, ReferenceField, Table
from wherry.tables.shape import ImportField, ImportShape

UNREADABLE = re.compile(r'[\\"\x00-\x1f]')
"""What the name of a Struct's field must not contain. Without the typed decoder, each field is decoded on its own."""


def object_maker(names: Sequence[str]) -> Callable[..., Any]:
    """Makes values that are encoded as JSON objects with these members, without those that are UNSET.

    A Struct that is filled by position is encoded in C, four times as fast as a dict per object. Its own names are
    plain, because a member may have any name.
    """
    if any(map(UNREADABLE.search, names)):
        pairs = partial(zip, names, strict=True)
        return lambda *values: {name: value for name, value in pairs(values) if value is not UNSET}
    attributes = {f"field_{place}": name for place, name in enumerate(names)}
    return msgspec.defstruct("Record", [(each, Any) for each in attributes], rename=attributes, gc=False)


@lru_cache(maxsize=256)
def shape_of(table: Table) -> ImportShape:
    """How records of a table are imported: by its policy, or as its columns say."""
    return table.policy or _derived(table)


def references_of(table: Table) -> tuple[ReferenceField, ...]:
    """The fields by which records that are imported may name rows of other tables."""
    return tuple(each for each in table.reference_fields if each.column in shape_of(table).places)


def import_fields(table: Table) -> set[str]:
    """The names of all fields that records may give."""
    return {*shape_of(table).places, *(each.name for each in references_of(table))}


def known_fields(table: Table) -> set[str]:
    """The names of all fields that a record of the table may have, including those that an import ignores."""
    return import_fields(table) | {*table.columns, *(each.name for each in table.reference_fields)}


def _derived(table: Table) -> ImportShape:
    columns = [column for column in table.columns.values() if column.is_importable]
    names = {f"f{place}": column.name for place, column in enumerate(columns)}
    is_readable = not any(UNREADABLE.search(name) for name in names.values())
    record = msgspec.defstruct(
        "Record",
        [(name, _annotation(table, column), UNSET) for name, column in zip(names, columns, strict=True)],
        rename=names if is_readable else None,
        frozen=True,
        gc=False,
    )
    return ImportShape(
        record=record,
        of_values=record,
        order=tuple(names.values()),
        fields=tuple(_field(table, column) for column in columns),
        columns=tuple(column.name for column in columns),
        new=astuple,
        changes=astuple,
        is_clean=None if is_readable else lambda record: False,
    )


def _annotation(table: Table, column: Column) -> object:
    annotation = column.type.annotation
    return annotation | None if _may_be_null(table, column) and annotation is not Raw else annotation


def _field(table: Table, column: Column) -> ImportField:
    return ImportField(
        column.name,
        column.type.rule,
        nullable=_may_be_null(table, column),
        typed=msgspec.json.Decoder(column.type.annotation),
        has_signed_zero=column.type.has_signed_zero,
    )


def _may_be_null(table: Table, column: Column) -> bool:
    """Whether a record may have null. A trigger may replace what the column cannot have."""
    return column.is_nullable or table.has_own_rules
