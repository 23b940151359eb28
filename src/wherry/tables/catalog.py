"""Reads declared tables from PostgreSQL's catalog. Changes nothing there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from psycopg import sql

from wherry.database.pools import Connection
from wherry.database.queries import fetch_all, load
from wherry.errors import Misconfigured
from wherry.tables.declarations import Declaration, nearest, owner_of
from wherry.tables.model import Check, Column, Constraint, Filter, Reference, Table, TableName, Unique
from wherry.tables.reference_fields import ForeignKey, Target, reference_field
from wherry.tables.types import CatalogType, Form, base_of, domain_checks, find_type, is_not_null

_KINDS_WITHOUT_KEYS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What the catalog has about one relation."""

    relation: Row
    columns: Sequence[Row]
    indexes: Sequence[Row]
    constraints: Sequence[Row]
    own_sources: Sequence[Row]


def like(text: str) -> str:
    """A pattern of LIKE that matches this text alone."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


async def matching(connection: Connection, schema: str, name: str) -> list[TableName]:
    """The tables whose schema and name match two patterns of LIKE, except those of the system and of wherry."""
    rows = await fetch_all(connection, load("catalog")["matching"], {"schema": schema, "name": name})
    return [TableName(row["schema"], row["name"]) for row in rows]


async def read_tables(
    connection: Connection, declared: Mapping[str, Declaration], others: Iterable[Declaration] = ()
) -> tuple[dict[str, Table], dict[str, str]]:
    """The tables that are declared, by the names of their resources, and why some cannot be used.

    `others` are further declarations, whose excluded columns must not be known either.
    """
    names = [declaration.relation for declaration in declared.values()]
    found, types = await _read(connection, names)
    targets = await _read_targets(connection, declared.values(), found, types)
    hidden = {(each.relation, name) for each in (*declared.values(), *others) for name in each.exclude}
    tables, faults = {}, {}
    for (resource, declaration), name, each in zip(declared.items(), names, found, strict=True):
        try:
            table = combine(resource, declaration, await _existing(connection, name, each), types)
            references = tuple(
                reference_field(table, column, key, _keys_of(each, column, targets), hidden)
                for column, key in declaration.references.items()
            )
            tables[resource] = replace(table, reference_fields=references)
        except Misconfigured as error:
            faults[resource] = str(error)
    return tables, faults


async def _read(connection: Connection, names: Sequence[TableName]) -> tuple[list[Found], dict[int, CatalogType]]:
    queries = load("catalog")
    given = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    async with connection.transaction(force_rollback=True):
        # Then the names of types always have their schema, as all wherry's sessions need.
        await connection.execute("set local search_path = pg_catalog")
        relations = await fetch_all(connection, queries["relations"], given)
        oids = {"oids": [row["oid"] for row in relations if row["oid"] is not None]}
        parts = [await fetch_all(connection, queries[part.name], oids) for part in fields(Found)[1:]]
        types = {row["oid"]: CatalogType(**row) for row in await fetch_all(connection, queries["types"], oids)}
    by_table: list[dict[int, list[Row]]] = []
    for rows in parts:
        by_table.append({})
        for row in rows:
            by_table[-1].setdefault(row["table"], []).append(row)
    return [Found(row, *(part.get(row["oid"], []) for part in by_table)) for row in relations], types


async def _read_targets(
    connection: Connection, declared: Iterable[Declaration], found: Sequence[Found], types: dict[int, CatalogType]
) -> dict[TableName, Target]:
    """The tables to which columns refer that are declared as references. Adds their types to `types`."""
    names = list(
        dict.fromkeys(
            TableName(row["target_schema"], row["target_name"])
            for declaration, each in zip(declared, found, strict=True)
            for column in declaration.references
            for row in _foreign_keys_of(each, column)
        )
    )
    if not names:
        return {}
    targets, more = await _read(connection, names)
    types.update(more)
    return {name: _as_target(name, each, types) for name, each in zip(names, targets, strict=True)}


def _as_target(relation: TableName, found: Found, types: Mapping[int, CatalogType]) -> Target:
    declared = Declaration(table=str(relation))
    may_read = found.relation["may_enter"] and found.relation["may_select"]
    unique = [tuple(index["columns"]) for index in found.indexes if _is_checked_row_by_row(index)]
    return Target(
        relation=relation,
        names=tuple(column["name"] for column in found.columns),
        columns={
            column["name"]: _column(column, declared, types)
            for column in found.columns
            if may_read and column["may_select"]
        },
        unique=frozenset(() if found.relation["has_children"] else (names[0] for names in unique if len(names) == 1)),
        is_restricted=found.relation["is_restricted"],
    )


def _keys_of(found: Found, column: str, targets: Mapping[TableName, Target]) -> list[ForeignKey]:
    return [
        ForeignKey(targets[TableName(row["target_schema"], row["target_name"])], row["target_columns"][0])
        for row in _foreign_keys_of(found, column)
    ]


async def _existing(connection: Connection, name: TableName, found: Found) -> Found:
    if found.relation["oid"] is None:
        others = await matching(connection, like(name.schema), "%")
        raise Misconfigured(f"there is no table {name}{nearest(str(name), map(str, others))}")
    return found


def combine(resource: str, declared: Declaration, found: Found, types: Mapping[int, CatalogType]) -> Table:
    """The table that a declaration and the catalog describe.

    Raises:
        Misconfigured: the table cannot be used as declared; the message says why, and what to do.
    """
    row, relation = found.relation, declared.relation
    _require_usable(relation, row, declared)
    if found.own_sources:
        source = found.own_sources[0]
        raise Misconfigured(
            f"{relation} shows {TableName(source['schema'], source['name'])}, which belongs to "
            f"{owner_of(source['schema'])} itself; declare a view of tables of your own"
        )
    every = [column["name"] for column in found.columns]
    _require_columns(declared, every)
    columns = {
        column["name"]: _column(column, declared, types)
        for column in found.columns
        if column["may_select"] and column["name"] not in declared.exclude
    }
    if not columns:
        raise Misconfigured(f"{relation} has no columns that may be shown")
    key = _key(declared, found, relation)
    hidden = [name for name in key if name not in columns]
    if hidden:
        raise Misconfigured(f"the key of {relation} has the column {hidden[0]}, which may not be shown")
    operators = {columns[name].type.operators for name in key}
    if None in operators or len(operators) > 1:  # rows are compared by one operator
        if declared.key is not None:
            raise Misconfigured(f"[{', '.join(key)}] cannot be the key of {relation}: its types cannot be compared")
        key = ()
    uniques = tuple(_uniques(found, columns, key))
    checks, foreign_keys = tuple(_checks(found, columns)), tuple(_foreign_keys(found, columns))
    return Table(
        name=resource,
        relation=relation,
        columns=columns,
        fields=tuple(columns),
        key=key,
        filters=tuple(_filters(declared, found, columns, key)),
        references=frozenset(
            TableName(each["target_schema"], each["target_name"]) for each in found.constraints if each["type"] == "f"
        )
        - {relation},
        import_roles=declared.import_roles if declared.importable and row["may_insert"] else (),
        export_roles=declared.export_roles if declared.exportable else (),
        uniques=uniques,
        checks=checks,
        foreign_keys=foreign_keys,
        constraints={each.name: each for each in (*_others(found, columns), *uniques, *checks, *foreign_keys)},
        is_copied=row["kind"] in "rp" and not (row["is_restricted"] or row["has_insert_rules"]),
        is_updatable=row["may_update"],
        is_restricted=row["is_restricted"],
        is_locked=row["kind"] in "rp" and row["may_update"],
        has_own_rules=row["has_own_rules"] or row["has_insert_rules"] or row["kind"] not in "rp",
        estimated_rows=row["estimated_rows"],
        comment=row["comment"],
        warnings=tuple(_warnings(relation, row)),
    )


def _column(row: Row, declared: Declaration, types: Mapping[int, CatalogType]) -> Column:
    is_nullable = not (row["not_null"] or is_not_null(row["type"], types))
    has_default = bool(row["has_default"] or row["identity"])
    is_importable = not row["generated"] and row["name"] not in declared.read_only and row["may_insert"]
    type_ = find_type(row["type"], row["typmod"], types, is_deterministic=row["is_deterministic"])
    return Column(
        name=row["name"],
        type=type_,
        declared=row["declared"],
        cast=types[row["type"]].sql_name,
        base=base_of(row["type"], types).sql_name,
        collation=row["collation"],
        is_drawn=bool(row["identity"]) or row["is_drawn"],
        is_nullable=is_nullable,
        is_required=is_importable and not is_nullable and not has_default,
        is_importable=is_importable,
        is_settable=is_importable and row["may_update"] and row["identity"] != "a",
        is_generated=bool(row["generated"]),
        sequence=row["sequence"] if row["may_move"] and "maximum" in type_.schema else None,
        domain_checks=domain_checks(row["type"], types),
        label=row["name"],
        comment=row["comment"],
    )


def _uniques(found: Found, columns: Mapping[str, Column], key: tuple[str, ...]) -> Iterator[Unique]:
    """Those that name a row first: the primary key, then the declared one. A view has only its declared key."""
    keys = [index for index in found.indexes if _is_checked_row_by_row(index)]
    if found.relation["kind"] in _KINDS_WITHOUT_KEYS:
        keys = [{"name": "key", "columns": list(key), "is_primary": True}]
    keys.sort(key=lambda index: not (index["is_primary"] or tuple(index["columns"]) == key))
    for index in keys:
        if all(name in columns for name in index["columns"]):
            names_row = index["is_primary"] or tuple(index["columns"]) == key
            yield Unique(name=index["name"], columns=tuple(index["columns"]), names_row=names_row)


def _is_checked_row_by_row(index: Row) -> bool:
    return (
        index["is_unique"]
        and index["is_immediate"]
        and index["is_ordinary"]
        and not index["is_partial"]
        and not index["nulls_are_equal"]
        and None not in index["columns"]
    )


def _checks(found: Found, columns: Mapping[str, Column]) -> Iterator[Check]:
    for row in found.constraints:
        is_shown = row["columns"] and all(name in columns for name in row["columns"])
        if row["type"] == "c" and row["is_enforced"] and is_shown:
            yield Check(name=row["name"], columns=tuple(row["columns"]), description=row["comment"])


def _foreign_keys(found: Found, columns: Mapping[str, Column]) -> Iterator[Reference]:
    for row in found.constraints:
        is_enforced = row["is_enforced"] and row["may_read_target"]
        if row["type"] == "f" and is_enforced and all(name in columns for name in row["columns"]):
            target = TableName(row["target_schema"], row["target_name"])
            yield Reference(
                name=row["name"],
                columns=tuple(row["columns"]),
                target=target,
                target_columns=tuple(row["target_columns"]),
                target_label=str(target),
            )


def _foreign_keys_of(found: Found, column: str) -> list[Row]:
    """The foreign keys of this column alone."""
    return [row for row in found.constraints if row["type"] == "f" and row["columns"] == [column]]


def _others(found: Found, columns: Mapping[str, Column]) -> Iterator[Constraint]:
    """All constraints and unique indexes, by name. Those on hidden columns have no description."""
    hides_columns = len(columns) < len(found.columns)
    for row in (*found.constraints, *(index for index in found.indexes if index["is_unique"])):
        names = row["columns"]  # None is an expression, of any columns
        is_clear = bool(names) and None not in names
        is_shown = all(name in columns for name in names if name is not None) and (is_clear or not hides_columns)
        yield Constraint(
            name=row["name"], columns=tuple(names) if is_clear and is_shown else (), is_hidden=not is_shown
        )


def _require_usable(relation: TableName, row: Row, declared: Declaration) -> None:
    if not (row["may_enter"] and row["may_select"]):
        role, schema = (sql.Identifier(name).as_string() for name in (row["role"], relation.schema))
        raise Misconfigured(
            f"the role {role} may not read {relation}; let its owner run: "
            f"grant usage on schema {schema} to {role}; grant select on {relation.sql.as_string()} to {role}"
        )
    if row["kind"] in _KINDS_WITHOUT_KEYS and not declared.key:
        kind = _KINDS_WITHOUT_KEYS[row["kind"]]
        raise Misconfigured(f"{relation} is {kind}, so the columns that identify a record must be declared: key = […]")


def _require_columns(declared: Declaration, known: Sequence[str]) -> None:
    named = {
        "key": declared.key or (),
        "exclude": declared.exclude,
        "read_only": declared.read_only,
        "filters": declared.filters or (),
        "references": tuple(declared.references),
    }
    for place, names in named.items():
        for name in names:
            if name not in known:
                raise Misconfigured(f"{place}: {declared.table} has no column {name}{nearest(name, known)}")
    for name in (*(declared.filters or ()), *declared.references):
        if name in declared.exclude:
            raise Misconfigured(f"{name} is excluded, so it can be neither a filter nor a reference")


def _key(declared: Declaration, found: Found, relation: TableName) -> tuple[str, ...]:
    if found.relation["kind"] in _KINDS_WITHOUT_KEYS:
        return declared.key or ()
    keys = [] if found.relation["has_children"] else list(_usable_keys(found))
    if declared.key is None:
        is_clear = len(keys) == 1 or (keys and keys[0][1])
        return keys[0][0] if is_clear else ()
    for columns, _ in keys:
        if sorted(columns) == sorted(declared.key):
            return columns
    usable = " or ".join(f"[{', '.join(columns)}]" for columns, _ in keys) or "none: it needs a unique constraint"
    raise Misconfigured(
        f"[{', '.join(declared.key)}] is not a key of {relation}: a key is a primary key or a unique constraint on "
        f"columns that are NOT NULL, not deferrable and not partial; usable here: {usable}"
    )


def _usable_keys(found: Found) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The columns of each key, and whether it is the primary key, which comes first."""
    not_null = {column["name"] for column in found.columns if column["not_null"]}
    for index in found.indexes:
        columns = index["columns"]
        if (
            index["is_unique"]
            and index["is_immediate"]
            and index["is_ordinary"]
            and not index["is_partial"]
            and not_null.issuperset(columns)
        ):
            yield tuple(columns), index["is_primary"]


def _filters(
    declared: Declaration, found: Found, columns: Mapping[str, Column], key: Sequence[str]
) -> Iterator[Filter]:
    names = declared.filters
    if names is None:
        leading = (
            index["columns"][0] for index in found.indexes if index["method"] == "btree" and index["is_ordinary"]
        )
        names = tuple(dict.fromkeys((*key, *leading)))
    for name in names:
        column = columns.get(name)
        if column is not None and column.type.operators and column.type.form not in (Form.JSON, Form.BYTES):
            yield Filter(name, nullable=column.is_nullable)
        elif declared.filters is not None:
            raise Misconfigured(f"{name} cannot be a filter: it may not be read, or its type cannot be compared")


def _warnings(relation: TableName, row: Row) -> Iterator[str]:
    if row["owner"] != row["role"]:
        yield f"{relation} belongs to the role {row['owner']}, which may change it at any time"
    if row["bypasses_row_security"]:
        yield f"{relation} has row-level security, which does not apply to the role {row['role']}"
