"""Brings a database's schema to what this version needs, forward only.

In: `sql/migrations/NNNN_name.sql`, and procrastinate's own schema. Out: a database in which `wherry_migrations` holds
the name and SHA-256 of every step; a step whose file has changed since is refused. One step is one transaction, and
an advisory lock lets any number of processes ask for it at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager
from psycopg.rows import tuple_row

from wherry.database.pools import Connection, connect
from wherry.database.queries import load, sql_root
from wherry.errors import Misconfigured, Unavailable

LOCK_KEY = 0x77686572  # "wher": the advisory lock that migrating processes share


@dataclass(frozen=True)
class Step:
    """One change of the schema."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def own_steps() -> list[Step]:
    """wherry's migrations, in the order of their numbers."""
    return [Step(file.stem, file.read_text("utf-8")) for file in sorted((sql_root() / "migrations").glob("*.sql"))]


def queue_steps() -> list[Step]:
    """procrastinate's migrations, in the order of its releases."""
    folder = Path(SchemaManager.get_migrations_path())
    return [Step(f"procrastinate/{file.stem}", file.read_text("utf-8")) for file in sorted(folder.glob("*.sql"))]


async def migrate(conninfo: str) -> list[str]:
    """Apply what is missing; the names of the steps applied, in order.

    Raises:
        Misconfigured: an applied step's file has changed, or the server is too old.
        Unavailable: the database cannot be reached.
    """
    applied: list[str] = []
    async with _locked(conninfo) as connection:
        known = await _known(connection)
        for step in _pending(own_steps(), known):
            await _apply(connection, step)
            applied.append(step.name)
        applied += await _migrate_queue(connection, known)
    return applied


async def pending(connection: Connection) -> list[str]:
    """Names of the steps that this database still lacks; every one of them where it was never migrated."""
    steps = own_steps() + queue_steps()
    exists = await (await connection.execute("select to_regclass('wherry_migrations')")).fetchone()
    known = {} if exists is None or exists[0] is None else await _known(connection)
    return [step.name for step in steps if step.name not in known]


async def require_current(connection: Connection) -> None:
    """Look whether this database has this version's schema.

    Raises:
        Unavailable: steps are missing.
    """
    missing = await pending(connection)
    if missing:
        raise Unavailable(f"{len(missing)} migrations are missing; run: wherry migrate", code="MIGRATIONS_PENDING")


async def require_ready(conninfo: str) -> None:
    """Look, before a process starts its work, whether the database is there and has this version's schema.

    Raises:
        Unavailable: it cannot be reached, or steps are missing.
    """
    async with await _reached(conninfo) as connection:
        await require_current(connection)


async def _reached(conninfo: str) -> Connection:
    try:
        return await connect(conninfo, name="wherry migrate")
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0]  # the first address's; it has no password
        raise Unavailable(f"the database of DATABASE_URL cannot be reached: {reason}", code="DATABASE_ERROR") from error


async def _migrate_queue(connection: Connection, known: dict[str, str]) -> list[str]:
    steps = queue_steps()
    if any(step.name in known for step in steps):
        missing = list(_pending(steps, known))
        for step in missing:
            await _apply(connection, step)
        return [step.name for step in missing]
    # A fresh database takes the whole schema at once; its steps are then recorded as already contained.
    async with connection.transaction():
        await _execute_script(connection, SchemaManager.get_schema())
        for step in steps:
            await _record(connection, step)
    return ["procrastinate"]


def _pending(steps: list[Step], known: dict[str, str]) -> Iterator[Step]:
    for step in steps:
        checksum = known.get(step.name)
        if checksum is None:
            yield step
        elif checksum != step.checksum:
            raise Misconfigured(f"migration {step.name} was changed after it had been applied to this database")


@asynccontextmanager
async def _locked(conninfo: str) -> AsyncIterator[Connection]:
    async with await _reached(conninfo) as connection:
        if connection.info.server_version < 150000:
            raise Misconfigured(f"PostgreSQL 15 or newer is needed; this is {connection.info.server_version // 10000}")
        await connection.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
        try:
            await connection.execute(load("migrations")["create_table"])
            yield connection
        finally:
            if not connection.broken:
                await connection.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])


async def _known(connection: Connection) -> dict[str, str]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(load("migrations")["known"])
    return {str(name): str(checksum) for name, checksum in await cursor.fetchall()}


async def _apply(connection: Connection, step: Step) -> None:
    async with connection.transaction():
        await _execute_script(connection, step.sql)
        await _record(connection, step)


async def _record(connection: Connection, step: Step) -> None:
    await connection.execute(load("migrations")["record"], {"name": step.name, "checksum": step.checksum})


async def _execute_script(connection: Connection, script: str) -> None:
    # Without parameters psycopg sends a script of several statements as it stands; the files ship with packages.
    await connection.execute(script.encode())
