"""References from records to rows of their own table, which may come later in the same file.

PostgreSQL checks them at the end of each statement. So a record can be written with the row that it refers to if both
are in one COPY, or after it. Otherwise the record is postponed to the end of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import Any

from msgspec import UNSET
from msgspec.structs import astuple

from wherry.imports.models import Batch, DecodedRecord
from wherry.imports.tokens import Token, token_reader
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table


class Turn(Enum):
    """When a record can be written."""

    NOW = auto()
    NEXT_SEGMENT = auto()
    LATER = auto()


class OwnReferences:
    """The rows that records of a batch refer to and other records of it create.

    Args:
        missing: for each foreign key of the table, the values to which there is no row yet.
        failing: the positions of records that will not be written.
    """

    def __init__(
        self, table: Table, missing: Sequence[Collection[Token]], batch: Batch, failing: Collection[int]
    ) -> None:
        self.relied_on: set[int] = set()
        """The positions of records that others need."""
        self._shape = shape_of(table)
        self._batch = batch
        self._parts = []
        for reference, values in zip(table.foreign_keys, missing, strict=False):
            if reference.target == table.relation and values:
                read = token_reader(table, reference.target_columns)
                created = {
                    read(astuple(entry.record)): place
                    for place, entry in reversed(list(enumerate(batch)))
                    if not entry.errors and place not in failing
                }
                self._parts.append((token_reader(table, reference.columns), values, created))

    def turn(self, place: int) -> Turn:
        """When the record at a position can be written."""
        if not self._parts:
            return Turn.NOW
        turn = Turn.NOW
        record = astuple(self._batch[place].record)
        for read, missing, created in self._parts:
            value = read(record)
            if value not in missing:
                continue
            other = created.get(value)
            if other is None:
                return Turn.LATER
            if not self._in_one_statement(place, other):
                if other > place:
                    return Turn.LATER
                turn = Turn.NEXT_SEGMENT
            self.relied_on.add(other)
        return turn

    def _in_one_statement(self, place: int, other: int) -> bool:
        return self._pattern(self._batch[place]) == self._pattern(self._batch[other])

    def _pattern(self, entry: DecodedRecord) -> tuple[Any, ...]:
        return entry.is_unparsed, *(value is UNSET for value in self._shape.new(entry.record))
