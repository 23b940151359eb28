"""Migrates a database to this version's schema; there is no way back.

The steps are `sql/migrations/NNNN_name.sql` and procrastinate's own migrations. The table `wherry_migrations` records
the name and SHA-256 of every applied step; if an applied step's file has changed, migrating fails. Each step is one
transaction. An advisory lock makes it safe for several processes to migrate at the same time.

Older versions installed themselves into the first schema of the search path, usually `public`. Such an installation is
first moved into the schema `wherry`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg.errors import DeadlockDetected, InsufficientPrivilege, LockNotAvailable

from wherry.database import schema
from wherry.database.pools import ABANDONED_SECONDS, Connection, connect
from wherry.database.queries import fetch_one, load, sql_root
from wherry.errors import DatabaseUnavailable, MigrationsPending, Misconfigured, Unavailable

WHOLE_QUEUE = "procrastinate"
MOVE = "move_to_schema_wherry"
REFUSED_BY_POOLER = "unsupported startup parameter"
POOLER = "DATABASE_URL is the URL of a pooler: set DATABASE_DIRECT_URL to the URL of the database itself"
LOCK_KEY = 0x77686572  # "wher": the key of the advisory lock


@dataclass(frozen=True)
class Step:
    """One change of the schema. If it replaces several steps, those in `contains` are recorded instead."""

    name: str
    sql: str
    contains: tuple[Step, ...] = ()

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def own_steps() -> list[Step]:
    """wherry's own migrations, ordered by number."""
    return [Step(file.stem, file.read_text("utf-8")) for file in sorted((sql_root() / "migrations").glob("*.sql"))]


def queue_steps() -> list[Step]:
    """procrastinate's migrations, ordered by release."""
    folder = Path(SchemaManager.get_migrations_path())
    return [Step(f"procrastinate/{file.stem}", file.read_text("utf-8")) for file in sorted(folder.glob("*.sql"))]


async def migrate(conninfo: str, on_applied: Callable[[str], object] = lambda name: None) -> list[str]:
    """Apply the missing steps. Returns their names, in order; `on_applied` is called with each name.

    Raises:
        Misconfigured: the server is too old, an applied step's file has changed, a step failed, or the URL is that of
            a pooler.
        Unavailable: the database cannot be reached, or other sessions use tables that have to be moved.
    """
    applied: list[str] = []
    async with _locked(conninfo) as connection:
        for name, apply in _changes(await _installed(connection)):
            try:
                async with connection.transaction():
                    await apply(connection)
            except (LockNotAvailable, DeadlockDetected) as error:
                raise Unavailable(f"{name} needs tables that are in use; stop the API and the workers first") from error
            except psycopg.OperationalError as error:
                raise Unavailable(f"the connection was lost during {name}: {_first_line(error)}") from error
            except psycopg.Error as error:
                raise await _refused(connection, name, error) from error
            applied.append(name)
            on_applied(name)
    return applied


def missing_steps(known: Mapping[str, str]) -> list[Step]:
    """The steps that a database lacks if those in `known` (name → checksum) were applied.

    If none of procrastinate's migrations were applied, its whole schema is one step.

    Raises:
        Misconfigured: an applied step's file has changed.
    """
    queue = queue_steps()
    if not any(step.name in known for step in queue):
        queue = [Step(WHOLE_QUEUE, SchemaManager.get_schema(), contains=tuple(queue))]
    steps = [*own_steps(), *queue]
    for step in steps:
        if known.get(step.name, step.checksum) != step.checksum:
            raise Misconfigured(f"migration {step.name} was changed after it had been applied to this database")
    return [step for step in steps if step.name not in known]


async def pending(connection: Connection) -> list[str]:
    """Names of the changes that `migrate` would make to this database."""
    return [name for name, _ in _changes(await _installed(connection))]


async def require_current(connection: Connection) -> None:
    """Check that the database has this version's schema.

    Raises:
        Unavailable: steps are missing.
    """
    missing = len(await pending(connection))
    if missing:
        counted = "1 migration is missing" if missing == 1 else f"{missing} migrations are missing"
        raise MigrationsPending(f"{counted}; run: wherry migrate")


async def require_ready(conninfo: str) -> None:
    """Check, before a process starts working, that the database is reachable and has this version's schema.

    Raises:
        Unavailable: it cannot be reached, or steps are missing.
        Misconfigured: the role may not read wherry's tables, or the URL is that of a pooler.
    """
    async with await _reached(conninfo) as connection:
        await require_current(connection)


async def _reached(conninfo: str) -> Connection:
    try:
        connection = await connect(conninfo, name="wherry migrate")
    except psycopg.OperationalError as error:
        # The other lines are about the host's other addresses. The first contains no password.
        reason = _first_line(error)
        if REFUSED_BY_POOLER in reason:
            raise Misconfigured(POOLER) from error
        raise DatabaseUnavailable(f"the database of DATABASE_URL cannot be reached: {reason}") from error
    row = await fetch_one(connection, load("migrations")["abandoned_after"], {})
    if row is None or row["setting"] != f"{ABANDONED_SECONDS}s":
        await connection.close()
        raise Misconfigured(POOLER)  # the pooler ignores `options`
    return connection


@asynccontextmanager
async def _locked(conninfo: str) -> AsyncIterator[Connection]:
    async with await _reached(conninfo) as connection:
        release = connection.info.server_version // 10000
        if release < 15:
            raise Misconfigured(f"PostgreSQL 15 or newer is required; this is {release}")
        await connection.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
        try:
            yield connection
        finally:
            if not connection.broken:
                await connection.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])


@dataclass(frozen=True)
class Installed:
    """What a database has: the schema with wherry's tables, and the applied steps with their checksums."""

    home: str = schema.SCHEMA
    known: Mapping[str, str] = field(default_factory=dict)


async def _installed(connection: Connection) -> Installed:
    """What earlier migrations have installed; nothing if the database was never migrated.

    Raises:
        Misconfigured: the role may not read it.
    """
    row = await fetch_one(connection, load("migrations")["installed_in"], {})
    if row is None:
        return Installed()
    table = sql.Identifier(row["nspname"], "wherry_migrations")
    try:
        rows = await connection.execute(sql.SQL("select name, checksum from {}").format(table))
    except InsufficientPrivilege as error:
        role = sql.Identifier(connection.info.user).as_string()
        raise Misconfigured(
            f"the role {role} may not read wherry's tables; let the role that ran wherry migrate run the output of: "
            "wherry migrate --print-grants"
        ) from error
    found = Installed(row["nspname"], dict(await rows.fetchall()))
    # A table in another schema that lacks our first step is somebody else's.
    return found if found.home == schema.SCHEMA or own_steps()[0].name in found.known else Installed()


Change = Callable[[Connection], Awaitable[None]]


def _changes(installed: Installed) -> Iterator[tuple[str, Change]]:
    """What `migrate` has to do, in order; each change is one transaction."""
    missing = missing_steps(installed.known)
    if installed.home != schema.SCHEMA:
        yield MOVE, partial(_move, installed=installed)
    for step in missing:
        yield step.name, partial(_apply, step=step)


async def _move(connection: Connection, installed: Installed) -> None:
    scripts = [step.sql for step in (*own_steps(), *queue_steps()) if step.name in installed.known]
    if any(step.name in installed.known for step in queue_steps()):
        scripts.append(SchemaManager.get_schema())  # has the names that migrations have given by renaming
    await schema.move_from(connection, installed.home, scripts)


async def _apply(connection: Connection, step: Step) -> None:
    await schema.enter(connection)
    await connection.execute(load("migrations")["create_table"])
    # Without parameters, psycopg sends a script of several statements unchanged.
    await connection.execute(step.sql.encode())
    await schema.pin_functions(connection)
    for each in step.contains or (step,):
        await connection.execute(load("migrations")["record"], {"name": each.name, "checksum": each.checksum})


async def _refused(connection: Connection, name: str, error: psycopg.Error) -> Misconfigured:
    """The error as `Misconfigured`, with the missing privilege and how to grant it."""
    said = error.diag.message_primary or _first_line(error)
    row = await fetch_one(connection, load("migrations")["rights"], {})
    if row is None or (row["may_create"] and not isinstance(error, InsufficientPrivilege)):
        return Misconfigured(f"migration {name} failed: {said}")
    if row["may_create"]:
        return Misconfigured(f"migration {name} failed: {said}; run wherry migrate as the role that ran it before")
    role, database = (sql.Identifier(row[key]).as_string() for key in ("role", "database"))
    if row["has_schema"]:
        return Misconfigured(
            f"the role {role} may not create tables in the schema wherry of the database {database}; "
            f"let the schema's owner run: grant usage, create on schema wherry to {role}"
        )
    return Misconfigured(
        f"the role {role} may not create the schema wherry in the database {database}; "
        f"let the database's owner run: grant create on database {database} to {role}"
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
