"""Runs a query and fetches its rows as dictionaries by column name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg.rows import dict_row

from wherry.database.pools import Connection

Values = Mapping[str, object]
Record = dict[str, Any]


async def fetch_one(connection: Connection, query: LiteralString, values: Values) -> Record | None:
    """The first row, or None if there is none."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchone()


async def fetch_all(connection: Connection, query: LiteralString, values: Values) -> list[Record]:
    """Every row."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()
