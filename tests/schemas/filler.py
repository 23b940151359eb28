"""Fills any schema with random rows that respect its constraints, from the catalog alone.

Types, lengths, foreign keys and domains are respected by construction. Rows that break another constraint are thrown
away, and plainer ones tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import psycopg
from psycopg import sql

from tests.schemas.catalog import Catalog, Constraint, Table, in_template
from tests.schemas.values import Values

ROWS = 40
TRIES = 30
NULLS = 0.25

Row = Mapping[str, str | None]


class CannotFill(Exception):
    """A table needs rows of another, which has none."""


class Filler:
    """Writes random rows.

    Args:
        connection: to the database; the caller commits.
        catalog: of the schema.
        seed: equal seeds give equal rows, except for the database's own defaults.
    """

    def __init__(self, connection: psycopg.Connection, catalog: Catalog, seed: str) -> None:
        self._connection = connection
        self._catalog = catalog
        self.values = Values(seed, catalog.types, connection)
        self._random = self.values.random

    def fill(self) -> dict[str, int]:
        """Add up to `ROWS` rows to every table. Returns how many were added to each."""
        return {table.name: self._fill(table) for table in in_order(self._catalog)}

    def row(self, table: Table, nastiness: float) -> Row:
        """A row that may break CHECKs and unique constraints; columns that it lacks get their defaults.

        Raises:
            CannotFill: see there.
        """
        row: dict[str, str | None] = {}
        for key in table.foreign_keys:
            row.update(self._reference(table, key, row))
        for column in table.written:
            if column.name in row or column.is_numbered or (column.has_default and self._random.random() < NULLS):
                continue
            is_null = column.is_nullable and self._random.random() < NULLS
            row[column.name] = None if is_null else self.values.text(column.type, column.typmod, nastiness)
        return row

    def insert(self, table: Table, row: Row) -> psycopg.Error | None:
        """Insert a row, or return why PostgreSQL refuses it."""
        try:
            with self._connection.transaction():
                insert(self._connection, table, row)
                self._connection.execute(b"set constraints all immediate")
                self._connection.execute(b"set constraints all deferred")
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            return error
        return None

    def try_row(self, table: Table) -> Row | None:
        """Insert a random row. Returns it, or None if none of `TRIES` was accepted."""
        for nastiness in (0.5, 0.5, 0.3, 0.3, 0.1, *[0.0] * (TRIES - 5)):
            row = self.row(table, nastiness)
            if self.insert(table, row) is None:
                return row
        return None

    def _fill(self, table: Table) -> int:
        for done in count():
            try:
                if done == ROWS or self.try_row(table) is None:
                    return done
            except CannotFill:
                return done
        raise AssertionError("count() has no end")

    def _reference(self, table: Table, key: Constraint, row: Row) -> Iterator[tuple[str, str | None]]:
        nullable = [name for name in key.columns if table.columns[name].is_nullable and name not in row]
        candidates = [
            found
            for found in self._rows_of(key)
            if all(row.get(name, value) == value for name, value in zip(key.columns, found, strict=True))
        ]
        if nullable and (not candidates or self._random.random() < NULLS):
            return ((name, None) for name in nullable)
        if not candidates:
            raise CannotFill(f"{table.name} needs a row of {key.target}")
        return zip(key.columns, self._random.choice(candidates), strict=True)

    def _rows_of(self, key: Constraint) -> list[tuple[str, ...]]:
        assert key.target is not None
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key.target_columns)
        target = self._catalog.tables[key.target].sql
        known = sql.SQL(" and ").join(
            sql.SQL("{} is not null").format(sql.Identifier(name)) for name in key.target_columns
        )
        query = sql.SQL("select {columns} from {target} where {known} order by {order}").format(
            columns=columns,
            target=target,
            known=known,
            order=sql.SQL(", ").join(sql.SQL(str(place + 1)) for place in range(len(key.target_columns))),
        )
        return self._connection.execute(query).fetchall()


def insert(connection: psycopg.Connection, table: Table, row: Row) -> None:
    """Insert one row, whose values are texts."""
    if not row:
        connection.execute(sql.SQL("insert into {} default values").format(table.sql))
        return
    connection.execute(
        sql.SQL("insert into {} ({}) overriding system value values ({})").format(
            in_template(table.sql),
            sql.SQL(", ").join(in_template(sql.Identifier(name)) for name in row),
            sql.SQL(", ").join([sql.SQL("%s")] * len(row)),
        ),
        list(row.values()),
    )


def in_order(catalog: Catalog) -> Iterator[Table]:
    """The tables, referenced ones first; in a cycle, one that can do without its references comes first."""
    waiting = dict(catalog.tables)
    while waiting:
        table = next(
            (table for table in waiting.values() if not _targets(table, waiting)),
            next((table for table in waiting.values() if not _needed(table, waiting)), next(iter(waiting.values()))),
        )
        yield waiting.pop(table.name)


def _targets(table: Table, waiting: Mapping[str, Table]) -> set[str | None]:
    return {key.target for key in table.foreign_keys} & waiting.keys() - {table.name}


def _needed(table: Table, waiting: Mapping[str, Table]) -> set[str | None]:
    strict = {
        key.target for key in table.foreign_keys if not any(table.columns[name].is_nullable for name in key.columns)
    }
    return strict & waiting.keys() - {table.name}
