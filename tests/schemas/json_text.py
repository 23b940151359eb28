"""The JSON that README promises for values, as PostgreSQL itself writes it."""

from __future__ import annotations

import json

import psycopg
from psycopg import sql

from tests.schemas.catalog import Catalog, Table

SESSION = "set time zone 'UTC'; set intervalstyle = iso_8601; set datestyle = iso"

NATIVE = {
    "bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "uuid", "date", "time",
    "timestamp",
}  # fmt: skip
SCALARS = {
    "money": "to_json({0}::numeric)::text",
    "timestamptz": "replace(to_json({0})::text, '+00:00', 'Z')",
    "bytea": "to_json(translate(encode({0}, 'base64'), E'\\n', ''))::text",
    "json": "{0}::text",
    "jsonb": "{0}::text",
}
ARRAY = """case coalesce(array_ndims({0}), 0)
  when 0 then '[]'
  when 1 then (
    select '[' || string_agg(coalesce({one}, 'null'), ',' order by a) || ']'
    from generate_subscripts({0}, 1) a
  )
  else (
    select '[' || string_agg(row_text, ',' order by a) || ']'
    from (
      select a, '[' || string_agg(coalesce({two}, 'null'), ',' order by b) || ']' as row_text
      from generate_subscripts({0}, 1) a, generate_subscripts({0}, 2) b
      group by a
    ) as rows_of_texts
  )
end"""


def value(catalog: Catalog, oid: int, expression: str) -> str:
    """SQL for the JSON of an expression of this type; it is null if the value is."""
    type_ = catalog.types[oid]
    if type_.kind == "d":
        return value(catalog, type_.base, expression)
    if type_.element:
        one, two = (value(catalog, type_.element, f"({expression}){place}") for place in ("[a]", "[a][b]"))
        return f"case when {expression} is not null then {ARRAY.format(expression, one=one, two=two)} end"
    if type_.name in NATIVE:
        return f"to_json({expression})::text"
    return SCALARS.get(type_.name, "to_json({0}::text)::text").format(expression)


def record(catalog: Catalog, table: Table, alias: str) -> str:
    """SQL for a row of a table as one line of ndjson."""
    parts = []
    for place, column in enumerate(table.columns.values()):
        key = ("," if place else "{") + json.dumps(column.name, ensure_ascii=False) + ":"
        text = value(catalog, column.type, f"{alias}.{quoted(column.name)}")
        parts.append(f"{sql.Literal(key).as_string()} || coalesce({text}, 'null')")
    return " || ".join([*parts, "'}'"])


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return sql.Identifier(name).as_string()


def records(connection: psycopg.Connection, catalog: Catalog, table: Table) -> list[str]:
    """Every row of a table as a line of ndjson, in the order of its primary or only other key."""
    key = ", ".join(f"r.{quoted(name)}" for name in key_of(table))
    order = f" order by {key}" if key else ""
    query = f"select {record(catalog, table, 'r')} from {table.sql.as_string()} as r{order}"
    return [line for (line,) in connection.execute(query.encode())]


def key_of(table: Table) -> tuple[str, ...]:
    """The columns that README says an export is ordered by."""
    if table.has_children:
        return ()
    keys = [
        each
        for each in table.constraints
        if each.kind in ("p", "u")
        and each.is_plain
        and not any(table.columns[name].is_nullable for name in each.columns)
    ]
    primary = [each for each in keys if each.kind == "p"]
    return primary[0].columns if primary else keys[0].columns if len(keys) == 1 else ()
