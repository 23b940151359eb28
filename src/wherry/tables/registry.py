"""The tables that are resources now: the built-in ones, and those that `tables.toml` declares."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from itertools import islice

import psycopg
import structlog

from wherry.database.pools import Pool, connect
from wherry.errors import Misconfigured, UnsupportedResource
from wherry.tables.builtin import BUILT_IN
from wherry.tables.catalog import read_tables
from wherry.tables.declarations import Declaration, Declarations
from wherry.tables.model import Table

CACHE_SECONDS = 10.0
"""How long the catalog is cached. If reading it took more than a second, the time is multiplied by the seconds it took.

Thousands of tables take seconds to read. With the factor, a process spends at most a tenth of its time on that.
"""

SHOWN_TABLES = 100
"""How many tables a message lists."""

CHANGED = "The table has changed since the request"
DEFINITION_CHANGED = ("42703", "42P01", "42883", "42501", "42804")
"""SQLSTATEs of statements about a table that has changed: a column, table, function or right is missing, or a column
has another type."""

log = structlog.get_logger(__name__)

TablesByName = Mapping[str, Table]


class Tables:
    """What a process knows about the tables. The catalog is read when it is first needed, and again from time to time.

    Args:
        pool: of the database that has the tables.
        declarations: what is declared.
    """

    def __init__(self, pool: Pool, declarations: Declarations) -> None:
        self._pool = pool
        self._declared: dict[str, Declaration] = {
            **(_built_in() if declarations.builtin else {}),
            **declarations.tables,
        }
        self._reading: asyncio.Task[TablesByName] | None = None
        self._found: TablesByName | None = None
        self._fresh_until = float("-inf")

    @property
    def names(self) -> Collection[str]:
        """The names of all resources, whether or not their tables can be used now."""
        return self._declared.keys()

    async def current(self) -> TablesByName:
        """The tables that can be used, by the names of their resources. Cached for `CACHE_SECONDS`.

        Raises:
            psycopg.OperationalError: the database cannot be reached, and nothing is cached.
        """
        if self._found is not None and time.monotonic() < self._fresh_until:
            return self._found
        try:
            return await self.reread()
        except psycopg.OperationalError:
            if self._found is None:
                raise
            return self._found

    async def find(self, name: str) -> Table | None:
        """One table as it is now, or None if it is not declared or cannot be used."""
        if name not in self._declared or self._is_built_in(name):
            return (await self.current()).get(name)  # only migrations change the built-in ones
        async with self._pool.connection() as connection:
            found, _ = await read_tables(connection, {name: self._declared[name]}, self._declared.values())
        return found.get(name)

    async def reread(self) -> TablesByName:
        """The tables that can be used now. Callers at the same time share one reading."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="read the catalog")
        return await asyncio.shield(self._reading)

    async def _read(self) -> TablesByName:
        started = time.monotonic()
        async with self._pool.connection() as connection:
            found, faults = await read_tables(connection, self._declared)
        for name, fault in faults.items():
            log.warning("a declared table cannot be used", table=name, reason=fault)
        self._found = {
            name: BUILT_IN[name].apply(table) if self._is_built_in(name) else table for name, table in found.items()
        }
        ended = time.monotonic()
        self._fresh_until = ended + CACHE_SECONDS * max(1.0, ended - started)
        return self._found

    def _is_built_in(self, name: str) -> bool:
        return name in BUILT_IN and self._declared[name] is BUILT_IN[name].declaration


async def require_usable(conninfo: str, declarations: Declarations) -> None:
    """Check, before a process starts working, that every declared table can be used.

    Does nothing if the database cannot be reached: the readiness check reports that, and the tables are read later.

    Raises:
        Misconfigured: some tables cannot be used; the message says which, why, and what to do.
    """
    if not declarations.tables:
        return
    try:
        connection = await connect(conninfo, name="wherry tables")
    except psycopg.OperationalError as error:
        log.warning("the declared tables are not checked yet", reason=str(error))
        return
    async with connection:
        _, faults = await read_tables(connection, declarations.tables)
    if faults:
        raise Misconfigured("\n".join(f"tables.{name}: {fault}" for name, fault in faults.items()))


def exportable_by(tables: TablesByName, role: str) -> TablesByName:
    """The tables that an account with this role may export."""
    return {name: table for name, table in tables.items() if role in table.export_roles}


def importable_by(tables: TablesByName, role: str) -> TablesByName:
    """The tables that an account with this role may import into."""
    return {name: table for name, table in tables.items() if role in table.import_roles}


def find_table(tables: TablesByName, name: object) -> Table:
    """The table with that name, in any case.

    Raises:
        Invalid: no such table; the message lists the tables, or as many as are of use.
    """
    table = tables.get(name.strip().lower()) if isinstance(name, str) else None
    if table is None:
        shown = ", ".join(islice(tables, SHOWN_TABLES)) + (", …" if len(tables) > SHOWN_TABLES else "")
        raise UnsupportedResource(f"resource must be one of {shown}", field="resource")
    return table


def _built_in() -> dict[str, Declaration]:
    return {name: each.declaration for name, each in BUILT_IN.items()}
