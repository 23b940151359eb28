"""Reads what a batch needs to know about the tables: the rows that its records name, and broken references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import astuple
from psycopg.rows import tuple_row

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.imports import statements
from wherry.imports.models import DecodedRecord
from wherry.imports.plan import Known, KnownRow
from wherry.imports.tokens import Token, token_reader
from wherry.tables.derivation import shape_of
from wherry.tables.model import Reference, Table, Unique
from wherry.tables.types import ValueType

_encode = msgspec.json.Encoder(enc_hook=str).encode  # for `Unparsed`


class Lookup:
    """Reads what `Known` has, for one import.

    Args:
        table: to import into.
        job_id: of the import.
        mine: the SQL of whether the import wrote a row; see `statements.lookup`. It may use `%(job_id)s` and
            `%(since)s`.
    """

    def __init__(self, table: Table, job_id: UUID, mine: str) -> None:
        self._table = table
        self._job_id = job_id
        self._mine = mine
        self._since: str | None = None
        self._compared_by_python = [
            all(table.columns[name].type.is_exact for name in unique.columns) for unique in table.uniques
        ]

    @property
    def is_exact(self) -> bool:
        """Whether Python can compare the values of all unique indexes."""
        return all(self._compared_by_python)

    async def known(
        self, connection: Connection, entries: Sequence[DecodedRecord], since: str | None, *, every: bool
    ) -> Known:
        """What the tables have that concerns these records.

        Args:
            connection: in the transaction that writes the records.
            entries: the records.
            since: the import's first transaction.
            every: whether to look at all unique indexes; otherwise only at those that name rows.
        """
        self._since = since
        records = [astuple(entry.record) for entry in entries if entry.record is not None]
        classes: dict[int, Mapping[Token, Token]] = {}
        rows: list[Mapping[Token, KnownRow]] = [{} for _ in self._table.uniques]
        found: dict[tuple[int, str], KnownRow] = {}
        # The keys that name rows come last: a row that is inserted meanwhile must not be found by another index only.
        for place, unique in reversed(list(enumerate(self._table.uniques))):
            if not (every or unique.names_row):
                continue
            samples = self._samples(records, unique.fields)
            if not self._compared_by_python[place] and samples:
                classes[place] = await self._classes(connection, unique, samples)
            rows[place] = await self._rows(connection, unique, samples, classes.get(place), found)
        missing = [await self._missing(connection, reference, records) for reference in self._table.foreign_keys]
        return Known(rows, classes, missing)

    async def with_keepers(self, connection: Connection, known: Known) -> Known:
        """The same, with the number of the rows of which one must remain, which are locked. Few records need this."""
        return replace(known, keepers=(await connection.execute(statements.keepers(self._table).encode())).rowcount)

    def _samples(self, records: Iterable[Sequence[Any]], fields: tuple[str, ...]) -> dict[Token, Sequence[Any]]:
        """A record for each token."""
        read = token_reader(self._table, fields)
        samples: dict[Token, Sequence[Any]] = {}
        for record in records:
            token = read(record)
            if token is not None:
                samples.setdefault(token, record)
        return samples

    async def _classes(
        self, connection: Connection, unique: Unique, samples: Mapping[Token, Sequence[Any]]
    ) -> dict[Token, Token]:
        query = statements.classes(self._table, unique)
        pairs = dict(await self._numbered(connection, query, unique.fields, samples.values()))
        return {token: pairs[number] for number, token in enumerate(samples)}

    async def _rows(
        self,
        connection: Connection,
        unique: Unique,
        samples: Mapping[Token, Sequence[Any]],
        classes: Mapping[Token, Token] | None,
        found: dict[tuple[int, str], KnownRow],
    ) -> dict[Token, KnownRow]:
        if not samples:
            return {}
        tokens = list(samples)
        query = statements.lookup(self._table, unique, self._mine)
        rows: dict[Token, KnownRow] = {}
        for number, part, place, mine, state in await self._numbered(
            connection, query, unique.fields, samples.values()
        ):
            row = found.setdefault((part, place), KnownRow(mine=mine, state=state))
            rows[tokens[number] if classes is None else classes[tokens[number]]] = row
        return rows

    async def _missing(
        self, connection: Connection, reference: Reference, records: Sequence[Sequence[Any]]
    ) -> frozenset[Token]:
        samples = self._samples(records, reference.columns)
        if not samples:
            return frozenset()
        tokens = list(samples)
        query = statements.missing(self._table, reference)
        numbers = await self._numbered(connection, query, reference.columns, samples.values())
        return frozenset(tokens[number] for (number,) in numbers)

    async def _numbered(
        self, connection: Connection, query: str, fields: Sequence[str], records: Iterable[Sequence[Any]]
    ) -> list[tuple[Any, ...]]:
        """The result of a query over these fields of records, which are numbered from 0."""
        encoded = encode_fields(self._table, fields, records)
        values = {"rows": encoded, "job_id": self._job_id, "since": self._since}
        return await fetch(connection, query, values)


async def fetch(connection: Connection, query: Any, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """The rows of a query over records, which is not prepared.

    A prepared statement could keep a generic plan that was made while the table was small, and scans all of it. Setting
    plan_cache_mode would also replan the foreign key checks of each row, which takes 30 % of an import's time.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode() if isinstance(query, str) else query, values, prepare=False)
        return await cursor.fetchall()


async def input_faults(
    connection: Connection, values: Iterable[tuple[ValueType, str, Any]]
) -> list[tuple[int, str, str, str | None]]:
    """Why PostgreSQL cannot read some of these values, each of which comes with its type, and the type's name in SQL.

    Returns:
        The position of each such value, the SQLSTATE, the message, and the constraint of a domain that it breaks.
    """
    rows: list[dict[str, object]] = [
        {
            "i": place,
            "v": value if type_.to_json is None else type_.to_json(value),
            "t": type_.sent or name,
            "x": type_.writes.replace("{}", "x"),
        }
        for place, (type_, name, value) in enumerate(values)
    ]
    return await fetch(connection, load("imports")["input_faults"], {"rows": encode(rows)}) if rows else []


def encode_fields(table: Table, fields: Sequence[str], records: Iterable[Sequence[Any]]) -> str:
    """Numbered records as JSON, for `statements`."""
    shape = shape_of(table)
    picked = []
    for field in fields:
        to_json = table.columns[field].type.to_json
        picked.append((f"c{shape.columns.index(field)}", shape.places[field], to_json))
    rows: list[dict[str, object]] = []
    for number, record in enumerate(records):
        row: dict[str, object] = {"i": number}
        for name, place, to_json in picked:
            value = record[place]
            row[name] = value if to_json is None or value is None else to_json(value)
        rows.append(row)
    return encode(rows)


def encode(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as JSON text."""
    return _encode(rows).decode()
