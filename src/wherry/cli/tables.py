"""`wherry tables`: shows, checks and declares the tables of the user's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from wherry.cli.tables_terminal import (
    import_summary,
    left_out_fields,
    not_imported,
    required_fields,
    use_in_imports,
    warnings_of,
)
from wherry.cli.users_terminal import printable
from wherry.database.pools import Connection, make_pool
from wherry.local.data_directory import database_of
from wherry.settings import Settings, load_settings
from wherry.tables.adoption import add_to_file, in_order, propose
from wherry.tables.declarations import DEFAULT_PATH, Declaration, Declarations, find_declarations, read_declarations
from wherry.tables.model import Table
from wherry.tables.registry import Tables, find_table, require_usable

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """All tables, and the declarations of those that are not built in, by name."""

    tables: list[Table]
    declared: Mapping[str, Declaration]


Flag = Annotated[bool, Parameter(negative="", show_default=False)]

tables = App(
    name="tables",
    help=(
        "Show, check and declare the tables of your own database.\n\n"
        "Declarations are read from TABLES_FILE or, if that is not set, from tables.toml in the working directory. The "
        "database is that of DATABASE_URL or, if that is not set, the embedded one of `wherry up`."
    ),
    help_format="markdown",
)


@tables.command(name="list")
def list_tables(*, json: Flag = False) -> None:
    """List the tables that are resources.

    Parameters
    ----------
    json
        Print one JSON object per line.
    """
    found = _find()
    if json:
        for table in found.tables:
            _say(msgspec.json.encode(_summary(table, found.declared.get(table.name))).decode())
        return
    grid = Grid("name", "table", "key", "columns", "rows (estimated)", "export", "import")
    for table in found.tables:
        estimate = "unknown" if table.estimated_rows < 0 else f"{table.estimated_rows:,}"
        roles = (", ".join(names) or "no" for names in (table.export_roles, table.import_roles))
        key = ", ".join(table.key) or "none"
        grid.add_row(*map(_cell, (table.name, str(table.relation), key, str(len(table.fields)), estimate, *roles)))
    Console().print(grid)


@tables.command
def show(name: str, /) -> None:
    """Show what a table's records look like, how they can be selected, and what an import needs.

    Parameters
    ----------
    name
        Name of the resource.
    """
    found = _find()
    table = find_table({each.name: each for each in found.tables}, name)
    declared = found.declared.get(table.name)
    _say(f"{table.name} is {table.relation}" + (f": {table.comment}" if table.comment else ""))
    _say(f"key: {', '.join(table.key) or 'none, so it can only be exported as a file'}")
    _say(f"filters: {', '.join(each.column for each in table.filters) or 'none'}")
    _say(f"import: {import_summary(table, declared)}")
    grid = Grid("field", "type in PostgreSQL", "JSON Schema", "null", "import", "comment")
    for field in table.fields:
        column = table.columns[field]
        schema = msgspec.json.encode(column.type.schema).decode()
        nullable = "yes" if column.is_nullable else "no"
        use = use_in_imports(table, column, declared)
        grid.add_row(*map(_cell, (field, column.declared, schema, nullable, use, column.comment or "")))
        for each in table.reference_fields:
            if each.column == field:
                schema, nullable = msgspec.json.encode(each.schema).decode(), "yes" if each.is_nullable else "no"
                kind = f"a row of {each.target}"
                grid.add_row(*map(_cell, (each.name, kind, schema, nullable, f"in place of {field}", "")))
    Console().print(grid)


@tables.command
def check() -> None:
    """Compare the declarations with the database. The exit status is 2 if a declared table cannot be used."""
    found = _find()
    for table in found.tables:
        for warning in warnings_of(table):
            _say(f"warning: {warning}")
        reason = not_imported(table, found.declared.get(table.name))
        if reason is not None:
            _say(f"{table.name} cannot be imported into: {reason}")
    importable = [table for table in found.tables if table.import_roles]
    _say(f"{len(found.tables)} tables can be used, {len(importable)} of them for imports")


@tables.command
def add(pattern: str, /) -> None:
    """Declare every table that matches a pattern, and say which cannot be declared and why.

    Parameters
    ----------
    pattern
        Schema and name; * is any text. Quote it to keep the shell from expanding it: 'shop.*'
    """
    settings = load_settings()
    path = settings.tables_file or DEFAULT_PATH
    declared = read_declarations(path) if path.exists() else Declarations()

    async def work(connection: Connection) -> None:
        found = await propose(connection, pattern, declared)
        if found.tables:
            add_to_file(path, found.tables)
        for table in found.tables.values():
            _say(f"added {table.name}: {table.relation}")
            _say(f"  import: {import_summary(table, Declaration(table=str(table.relation)))}")
            for warning in warnings_of(table):
                _say(f"  warning: {warning}")
        for relation, reason in found.refused.items():
            _say(f"not added: {relation}: {reason}")
        _say(f"{len(found.tables)} tables were added to {path}; a running service has to be restarted")

    _run(settings, work)


@tables.command
def order() -> None:
    """Print the tables in an order in which they can be imported: referenced ones first.

    Tables that refer to each other in a cycle have no such order; they are named on standard error.
    """
    found, cycles = in_order({table.name: table for table in _find().tables})
    for table in found:
        _say(table.name)
    for cycle in cycles:
        Console(stderr=True).print(f"in a cycle: {' → '.join(cycle)}", highlight=False, markup=False, soft_wrap=True)


def _find() -> Found:
    """All tables, and what is declared about them.

    Raises:
        Misconfigured: some cannot be used.
    """
    settings = load_settings()
    with database_of(settings) as url:
        return asyncio.run(_read(url, settings.tables_file))


async def _read(url: str, path: Path | None) -> Found:
    declarations = find_declarations(path)
    await require_usable(url, declarations)
    async with make_pool(url, name="wherry tables", max_size=1) as pool:
        return Found(list((await Tables(pool, declarations).current()).values()), declarations.tables)


def _run(settings: Settings, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def connected(url: str) -> T:
        async with make_pool(url, name="wherry tables", max_size=1) as pool, pool.connection() as connection:
            return await work(connection)

    with database_of(settings) as url:
        return asyncio.run(connected(url))


def _summary(table: Table, declared: Declaration | None) -> dict[str, object]:
    return {
        "name": table.name,
        "table": str(table.relation),
        "key": table.key,
        "fields": table.fields,
        "filters": [each.column for each in table.filters],
        "estimatedRows": None if table.estimated_rows < 0 else table.estimated_rows,
        "exportRoles": table.export_roles,
        "importRoles": table.import_roles,
        "required": required_fields(table),
        "notImported": dict(left_out_fields(table, declared)),
    }


def _cell(text: str) -> Text:
    return Text(printable(text))


def _say(text: str) -> None:
    Console().print(printable(text), highlight=False, markup=False, soft_wrap=True)
