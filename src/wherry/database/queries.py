"""Named SQL queries from `sql/`, and their rows as dictionaries by column name.

A section of `sql/queries/limits.sql` that is headed `-- name: take` is `load("limits")["take"]`, a `LiteralString`. The
files are read from the installed package or, in a checkout, from its root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, LiteralString, cast

from psycopg.rows import dict_row

from wherry.database.pools import Connection

_HEADING = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


@cache
def sql_root() -> Path:
    """The directory with `migrations` and `queries`."""
    package = Path(__file__).parents[1]
    for candidate in (package / "sql", package.parents[1] / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise FileNotFoundError(f"no sql directory beside or inside {package}")


@cache
def load(subject: str) -> Mapping[str, LiteralString]:
    """The named queries of one file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a name is used twice.
    """
    text = (sql_root() / "queries" / f"{subject}.sql").read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"a query name is used twice in {subject}.sql")
    # The files ship with the package and never contain input, so they are as literal as strings in the code.
    return MappingProxyType({name: cast(LiteralString, body.strip()) for name, body in zip(names, bodies, strict=True)})


async def fetch_one(
    connection: Connection, query: LiteralString, values: Mapping[str, object]
) -> dict[str, Any] | None:
    """Run a query and return its first row, or None if there are no rows."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchone()


async def fetch_all(connection: Connection, query: LiteralString, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """Run a query and return all of its rows."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()
