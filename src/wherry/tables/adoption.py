"""Proposes declarations for tables that match a pattern, and adds them to a `tables.toml`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain, count
from pathlib import Path

from wherry.database.pools import Connection
from wherry.errors import Misconfigured
from wherry.tables.builtin import BUILT_IN
from wherry.tables.catalog import like, matching, read_tables
from wherry.tables.declarations import Declaration, Declarations, parse_declarations
from wherry.tables.model import Table, TableName
from wherry.tables.registry import TablesByName

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_-]+")
_SECTION = "[tables]"


@dataclass(frozen=True)
class Proposal:
    """Tables that match a pattern.

    Attributes:
        tables: those that can be declared, by the proposed name.
        refused: why others cannot be, by their names in PostgreSQL.
    """

    tables: TablesByName
    refused: Mapping[TableName, str]


async def propose(connection: Connection, pattern: str, declared: Declarations) -> Proposal:
    """What can be declared among the tables that match a pattern.

    Args:
        connection: to the database with the tables.
        pattern: a schema and a name, such as `shop.*`; `*` is any text.
        declared: what is declared already, and is left out.

    Raises:
        Misconfigured: the pattern is malformed, or matches no table.
    """
    schema, dot, name = pattern.partition(".")
    if not (schema and dot and name):
        raise Misconfigured(f"{pattern} must be a schema and a name, such as 'shop.*'")
    found = await matching(connection, _like(schema), _like(name))
    if not found:
        raise Misconfigured(f"no table matches {pattern}; is it in this database, and is the schema spelled as in SQL?")
    known = {each.relation for each in declared.tables.values()}
    names: dict[str, Declaration] = {}
    taken = {*BUILT_IN, *declared.tables}
    for relation in found:
        if relation not in known:
            name = _resource_name(relation, taken)
            names[name] = Declaration(table=str(relation))
            taken.add(name)
    tables, faults = await read_tables(connection, names)
    return Proposal(tables, {names[name].relation: fault for name, fault in faults.items()})


def add_to_file(path: Path, tables: TablesByName) -> None:
    """Append a line for each table to a file, which is created if it does not exist.

    Raises:
        Misconfigured: the file has faults, or cannot be written.
    """
    before = path.read_text("utf-8") if path.exists() else ""
    declared = parse_declarations(before, str(path)).tables
    wanted = {**declared, **{name: Declaration(table=str(table.relation)) for name, table in tables.items()}}
    for lines in (_as_lines(tables), f"{_SECTION}\n{_as_lines(tables)}", _as_sections(tables)):
        after = f"{before.rstrip()}\n\n{lines}" if before.strip() else lines
        if _declares(after, wanted):
            try:
                path.write_text(after, "utf-8")
            except OSError as error:
                raise Misconfigured(f"{path} cannot be written: {error}") from error
            return
    raise Misconfigured(f"{path} has tables in a form that cannot be appended to; use a section: {_SECTION}")


def in_order(tables: TablesByName) -> tuple[list[Table], list[list[str]]]:
    """The tables in an order in which they can be imported: referenced ones first.

    Also returns the cycles in which tables refer to each other, by their names. No order suits these; each was cut at
    its first reference.
    """
    names: dict[TableName, list[str]] = {}
    for name, table in tables.items():
        names.setdefault(table.relation, []).append(name)
    references = {
        name: {each for target in tables[name].references for each in names.get(target, ())} for name in sorted(tables)
    }
    cycles: list[list[str]] = []
    while True:
        try:
            sorter = TopologicalSorter({name: sorted(targets) for name, targets in references.items()})
            return [tables[name] for name in sorter.static_order()], cycles
        except CycleError as error:
            cycle: list[str] = error.args[1]
            references[cycle[1]].discard(cycle[0])
            cycles.append(cycle)


def _like(pattern: str) -> str:
    return like(pattern).replace("*", "%")


def _resource_name(relation: TableName, taken: Collection[str]) -> str:
    """The table's name if it is free, otherwise with its schema, otherwise a number."""
    plain, full = (
        _NOT_IN_A_NAME.sub("_", text.lower()).strip("_-") for text in (relation.name, "_".join(relation.parts))
    )
    candidates = chain((plain, full), (f"table_{number}" for number in count(1)))
    shortened = (name[-60:].lstrip("0123456789_-") for name in candidates)
    return next(name for name in shortened if name and name not in taken)


def _declares(text: str, wanted: Mapping[str, Declaration]) -> bool:
    try:
        return dict(parse_declarations(text, "").tables) == dict(wanted)
    except Misconfigured:
        return False


def _as_lines(tables: TablesByName) -> str:
    return "".join(f"{name} = {_quoted(table)}  # {_derived(table)}\n" for name, table in tables.items())


def _as_sections(tables: TablesByName) -> str:
    return "\n".join(
        f"[tables.{name}]  # {_derived(table)}\ntable = {_quoted(table)}\n" for name, table in tables.items()
    )


def _quoted(table: Table) -> str:
    # Such a string is also one of TOML's, except that TOML has no U+007F.
    return json.dumps(str(table.relation), ensure_ascii=False).replace("\x7f", "\\u007f")


def _derived(table: Table) -> str:
    """What was derived, as a comment on one line."""
    key = f"key {', '.join(table.key)}" if table.key else "no key: exported as a file only"
    filters = ", ".join(each.column for each in table.filters) or "none"
    text = f"{key}; {len(table.fields)} columns; filters: {filters}"
    return "".join(character if character.isprintable() else "?" for character in text)
