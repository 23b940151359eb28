"""Encodes rows as binary COPY data (PostgreSQL manual, COPY, "Binary Format").

Encoding takes about as long as decoding, and the server needs longer than either. So the next batch is encoded in the
thread that reads it, while the server writes the current one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import filterfalse
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from msgspec import UNSET
from psycopg._copy_base import format_row_binary  # documented as `Copy.write_row`, but that cannot run in a thread
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import AdaptersMap, Dumper, Transformer
from psycopg.pq import Format
from psycopg.types.string import BytesBinaryDumper

from wherry.database.pools import Connection
from wherry.imports.models import Batch
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table
from wherry.tables.shape import Row

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"null"


@asynccontextmanager
async def copying(connection: Connection, query: bytes) -> AsyncIterator[psycopg.AsyncCopy]:
    """COPY to a table.

    Raises:
        OperationalError: the connection was lost. psycopg takes what a pooler then sends for results of two queries.
    """
    try:
        async with connection.cursor() as cursor, cursor.copy(query) as copy:
            yield copy
    except psycopg.ProgrammingError as error:
        if connection.broken:
            raise psycopg.OperationalError("the connection was lost before COPY began") from error
        raise


class _JsonDumper(Dumper):
    """Copies JSON as it is; `null` is NULL."""

    format = Format.BINARY
    oid = psycopg.adapters.types["json"].oid

    def dump(self, obj: msgspec.Raw) -> bytes | None:
        text = bytes(obj)
        return None if text == _NULL else text


class _JsonbDumper(Dumper):
    """The same for jsonb, whose binary form is a version number, then the text."""

    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: msgspec.Raw) -> bytes | None:
        data = b"\x01" + obj
        return None if data == b"\x01null" else data


_ADAPTERS = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_dumper(bytes, BytesBinaryDumper)  # the driver's own choice for bytea is far slower
_ADAPTERS.register_dumper(msgspec.Raw, _JsonDumper)
_ADAPTERS.register_dumper(msgspec.Raw, _JsonbDumper)

UNENCODABLE = (psycopg.DataError, OverflowError, ValueError)
"""What the driver raises for a value that it cannot encode, such as a number with too many digits."""

Places = tuple[int, ...]
"""The positions of the columns that rows have."""


@dataclass(frozen=True)
class Copied:
    """Rows with the same columns, as COPY data.

    Attributes:
        columns: that the data has.
        data: header, rows and trailer.
        count: of the rows.
        highest: the highest value in each column with a sequence.
    """

    columns: tuple[str, ...]
    data: bytes
    count: int
    highest: Mapping[str, int]


class RowEncoder:
    """Encodes rows of one table for one import. Not for use by two threads at once."""

    def __init__(self, table: Table, job_id: UUID) -> None:
        shape = shape_of(table)
        self._table = table
        self._columns = [table.columns[name] for name in shape.columns]
        self._marker = shape.marker
        self._job_id = job_id
        self._new = shape.new
        self._parts: dict[Places, tuple[Callable[[Row], Sequence[Any]], AnyTransformer]] = {}
        self._sequences = [place for place, column in enumerate(self._columns) if column.sequence is not None]

    def encode_ahead(self, batch: Batch) -> list[Copied] | None:
        """The rows that a batch's sound records create, or None if COPY cannot write all of them."""
        sound = [entry for entry in batch if not entry.errors]
        if not self._table.is_copied or any(entry.is_unparsed for entry in sound):
            return None
        groups = grouped(self._new(entry.record) for entry in sound)
        if not all(self.can_encode(places) for places in groups):
            return None
        return [self.encode(places, rows) for places, rows in in_order(groups)]

    def can_encode(self, places: Places) -> bool:
        """Whether COPY can write these columns."""
        return bool(places) and all(self._columns[place].type.copy is not None for place in places)

    def encode(self, places: Places, rows: Sequence[Row]) -> Copied:
        """Rows that have these columns."""
        pick, transformer = self._part(places)
        data = bytearray(_HEADER)
        for row in rows:
            format_row_binary(pick(row), transformer, data)
        data += _TRAILER
        names = tuple(self._columns[place].name for place in places)
        columns = names if self._marker is None else (*names, self._marker)
        return Copied(columns, bytes(data), len(rows), self._highest(places, rows))

    def _highest(self, places: Places, rows: Sequence[Row]) -> dict[str, int]:
        return {
            self._columns[place].name: highest_of(row[place] for row in rows)
            for place in self._sequences
            if place in places
        }

    def _part(self, places: Places) -> tuple[Callable[[Row], Sequence[Any]], AnyTransformer]:
        if places not in self._parts:
            columns = [self._columns[place] for place in places]
            names = [str(column.type.copy) for column in columns] + ["uuid"] * (self._marker is not None)
            transformer = Transformer(_ADAPTERS)
            transformer.set_dumper_types([psycopg.adapters.types.get_oid(name) for name in names], Format.BINARY)
            self._parts[places] = self._picker(places), transformer
        return self._parts[places]

    def _picker(self, places: Places) -> Callable[[Row], Sequence[Any]]:
        """Takes the values of some columns from a row, and adds that of the marker."""
        take: Callable[[Row], Row] = tuple if len(places) == len(self._columns) else picker(places)
        if self._marker is None:
            return take
        return lambda row: (*take(row), self._job_id)


def highest_of(values: Iterable[int | None]) -> int:
    """The highest of some ids, of which some may be null; 0 if all are."""
    return max((value for value in values if value is not None), default=0)


def given(row: Row) -> Places:
    """The positions of the values that a row has."""
    return tuple([place for place, value in enumerate(row) if value is not UNSET])


def grouped(rows: Iterable[Row]) -> dict[Places, list[Row]]:
    """Rows by the positions of the values that they have."""
    groups: dict[Places, list[Row]] = defaultdict(list)
    whole: list[Row] = []
    for row in rows:
        if UNSET in filterfalse(None, row):  # UNSET is false, and some types take long to compare
            groups[given(row)].append(row)
        else:
            whole.append(row)
    return {tuple(range(len(whole[0]))): whole, **groups} if whole else groups


def in_order(groups: Mapping[Places, list[Row]]) -> list[tuple[Places, list[Row]]]:
    """Those that have more values come first: a sequence must not give their ids to others."""
    return sorted(groups.items(), key=lambda group: -len(group[0]))


def picker(places: Places) -> Callable[[Row], Row]:
    """Takes the values at some positions."""
    if len(places) == 1:
        place = places[0]
        return lambda row: (row[place],)
    return itemgetter(*places) if places else lambda row: ()
