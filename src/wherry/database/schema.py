"""The schema `wherry`: everything of wherry's own is in it, so that it is a guest in the database of somebody else.

Our queries name it, so that data connections can keep the user's search path, which triggers on the user's tables need.
The queue's connections have it as their search path, because procrastinate's queries do not name a schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from psycopg import sql

from wherry.database.pools import Connection
from wherry.database.queries import load

SCHEMA = "wherry"

MOVE_PATIENCE = "10s"
"""How long a move waits for a lock on one table."""

_CREATED = re.compile(r"\bcreate\s+(?:or\s+replace\s+)?(table|type|function)\s+(?:if\s+not\s+exists\s+)?(\w+)", re.I)


async def enter(connection: Connection) -> None:
    """Create the schema if it does not exist, and make it the search path of the current transaction."""
    await connection.execute(load("schema")["create"])
    await connection.execute(load("schema")["enter"])


async def pin_functions(connection: Connection) -> None:
    """Make the schema's functions work under any search path."""
    await connection.execute(load("schema")["pin_functions"])


async def move_from(connection: Connection, schema: str, scripts: Iterable[str]) -> None:
    """Move wherry's tables, types and functions from the schema of an older installation, in the current transaction.

    Moves exactly what the scripts create: other objects in that schema belong to the user, even if their names are
    similar. Rows, ids, grants, and what refers to the tables from outside stay as they are.

    Args:
        connection: of the role that owns the objects.
        schema: the one that they are in.
        scripts: the migrations that created them.
    """
    created: dict[str, set[str]] = {"table": {"wherry_migrations"}, "type": set(), "function": set()}
    for script in scripts:
        for kind, name in _CREATED.findall(script):
            created[kind.lower()].add(name.lower())
    await connection.execute(load("schema")["begin_move"], {"patience": MOVE_PATIENCE})
    await connection.execute(load("schema")["create"])
    names = {f"{kind}s": sorted(found) for kind, found in created.items()}
    moves = await connection.execute(load("schema")["moves"], {"schema": schema, **names})
    for statement, _ in await moves.fetchall():
        await connection.execute(statement)
    await pin_functions(connection)


def grants(role: str) -> str:
    """The SQL that lets a role run the API and the workers after another role has run the migrations."""
    return sql.SQL(load("schema")["grants"]).format(role=sql.Identifier(role)).as_string()
