"""Composes the SQL of a selection. All values are named parameters; all identifiers come from declared resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from wherry.database.schema import SCHEMA
from wherry.exports.selection import Selection

# The server formats timestamps: our process is busier than the server, and msgspec would omit milliseconds of zero. The
# session's time zone is UTC. Infinity becomes null.
_INSTANT = sql.SQL("""to_char({column}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as {column}""")


def window(selection: Selection) -> sql.Composed:
    """At most `%(limit)s` records with ids above `%(after)s`, in order: the fields, and `id` if it is not a field."""
    columns = [_column(selection, name) for name in _names(selection)]
    return sql.SQL("select {columns}\nfrom {table}\nwhere {where}\norder by id\nlimit %(limit)s").format(
        columns=sql.SQL(", ").join(columns), table=_table(selection), where=_where(selection, after=True)
    )


def bounded_window(selection: Selection) -> sql.Composed:
    """A `window` that also ends after the record with which its texts reach `%(bytes)s`."""
    return sql.SQL(
        "select {columns}\n"
        "from (\n"
        "  select *, sum({size}) over (order by id rows between unbounded preceding and 1 preceding) as size_before\n"
        "  from ({window}) as records\n"
        ") as records\n"
        "where coalesce(size_before, 0) < %(bytes)s\n"
        "order by id"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, _names(selection))),
        size=sql.SQL(" + ").join([sql.SQL("0"), *_text_sizes(selection)]),
        window=window(selection),
    )


def id_position(selection: Selection) -> int:
    """The index of `id` in a row of a `window`; -1 if it is not a field and was added as the last column."""
    return selection.fields.index("id") if "id" in selection.fields else -1


def without_added_id(selection: Selection, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of a `window` with only the fields."""
    return rows if id_position(selection) >= 0 else [row[:-1] for row in rows]


def estimate(selection: Selection) -> sql.Composed:
    """How many records the planner expects, as JSON."""
    return sql.SQL("explain (format json)\nselect id\nfrom {table}\nwhere {where}").format(
        table=_table(selection), where=_where(selection, after=False)
    )


def values(selection: Selection, **others: object) -> dict[str, object]:
    """The values of the conditions' parameters, and `others`."""
    return {**{f"value_{place}": test.value for place, test in enumerate(selection.conditions)}, **others}


def _where(selection: Selection, *, after: bool) -> sql.Composed:
    tests: list[sql.Composable] = [sql.SQL("id > %(after)s")] if after else [sql.SQL("true")]
    for place, test in enumerate(selection.conditions):
        column = sql.Identifier(test.column)
        if test.operator == "is null":
            tests.append(sql.SQL("{} is null").format(column))
        else:
            value = sql.Placeholder(f"value_{place}")
            tests.append(sql.SQL("{} {} {}").format(column, sql.SQL(test.operator), value))
    return sql.SQL("\n  and ").join(tests)


def _column(selection: Selection, field: str) -> sql.Composable:
    name = sql.Identifier(field)
    is_instant = selection.resource.shape.columns.get(field) == "timestamptz"
    return _INSTANT.format(column=name) if is_instant else name


def _table(selection: Selection) -> sql.Identifier:
    return sql.Identifier(SCHEMA, selection.resource.name)


def _names(selection: Selection) -> list[str]:
    """The columns of a `window`."""
    return [*selection.fields, *(["id"] if id_position(selection) < 0 else [])]


def _text_sizes(selection: Selection) -> Iterator[sql.Composable]:
    """The size in bytes of each field that can be large. PostgreSQL knows it without reading the text."""
    types = selection.resource.shape.columns
    for name in selection.fields:
        if types.get(name, "").startswith("text"):
            yield sql.SQL("coalesce(octet_length({}::text), 0)").format(sql.Identifier(name))
