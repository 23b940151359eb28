"""Fills any schema with random rows that respect its constraints, from the catalog alone.

Types, lengths, foreign keys and domains are respected by construction. Rows that break another constraint are thrown
away, and plainer ones tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
        self._remembered: dict[Constraint, list[tuple[str, ...]]] = {}

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

    def refusal(self, table: Table, row: Row) -> psycopg.Error | None:
        """Why PostgreSQL refuses a row, or None if it accepts it. Does not add it."""
        try:
            with self._connection.transaction(force_rollback=True):
                self._insert(table, row, "true")
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            return error
        return None

    def try_row(self, table: Table, returning: str = "true") -> tuple[Any, ...] | None:
        """Insert a random row, whose alias is `r`. Returns what it has, or None if there is no such row."""
        for nastiness in (0.5, 0.5, 0.3, 0.3, 0.1, *[0.0] * (TRIES - 5)):
            try:
                with self._connection.transaction():
                    return self._insert(table, self.row(table, nastiness), returning)
            except CannotFill:
                return None
            except (psycopg.IntegrityError, psycopg.DataError):
                continue
        return None

    def remember_references(self, table: Table) -> None:
        """From now on, let rows of this table refer only to rows that exist now."""
        self._remembered = {key: self._rows_of(key) for key in table.foreign_keys}

    def _fill(self, table: Table) -> int:
        return next((done for done in range(ROWS) if self.try_row(table) is None), ROWS)

    def _insert(self, table: Table, row: Row, returning: str) -> tuple[Any, ...] | None:
        statement = sql.SQL("insert into {} as r {} returning {}").format(
            in_template(table.sql), _columns_and_values(row), sql.SQL(returning.replace("%", "%%"))
        )
        found = self._connection.execute(statement, list(row.values())).fetchone()
        self._connection.execute(b"set constraints all immediate")
        self._connection.execute(b"set constraints all deferred")
        return found

    def _reference(self, table: Table, key: Constraint, row: Row) -> Iterator[tuple[str, str | None]]:
        nullable = [name for name in key.columns if table.columns[name].is_nullable and name not in row]
        taken = set(self._taken(table, key))
        candidates = [
            found
            for found in (self._remembered[key] if key in self._remembered else self._rows_of(key))
            if found not in taken
            and all(row.get(name, value) == value for name, value in zip(key.columns, found, strict=True))
        ]
        if nullable and (not candidates or self._random.random() < NULLS):
            return ((name, None) for name in nullable)
        if not candidates:
            raise CannotFill(f"{table.name} needs a row of {key.target}")
        return zip(key.columns, self._random.choice(candidates), strict=True)

    def _rows_of(self, key: Constraint) -> list[tuple[str, ...]]:
        return self._texts(self._catalog.tables[str(key.target)], key.target_columns)

    def _taken(self, table: Table, key: Constraint) -> list[tuple[str, ...]]:
        """The rows that this table refers to already, if it may refer to each only once."""
        is_unique = any(each.kind in ("p", "u") and each.columns == key.columns for each in table.constraints)
        return self._texts(table, key.columns) if is_unique else []

    def _texts(self, table: Table, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Some columns of every row that has them, in a certain order."""
        names = [sql.Identifier(name) for name in columns]
        query = sql.SQL("select {} from {} where {} order by {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names),
            table.sql,
            sql.SQL(" and ").join(sql.SQL("{} is not null").format(name) for name in names),
            sql.SQL(", ").join(sql.SQL(str(place)) for place in range(1, len(names) + 1)),
        )
        return self._connection.execute(query).fetchall()


def _columns_and_values(row: Row) -> sql.Composable:
    if not row:
        return sql.SQL("default values")
    return sql.SQL("({}) overriding system value values ({})").format(
        sql.SQL(", ").join(in_template(sql.Identifier(name)) for name in row),
        sql.SQL(", ").join([sql.SQL("%s")] * len(row)),
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
