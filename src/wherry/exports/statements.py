"""Composes the SQL of a selection. All values are named parameters; all identifiers come from the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from wherry.exports.selection import Selection
from wherry.tables.model import Column
from wherry.tables.types import Form


def export(selection: Selection) -> sql.Composed:
    """At most `%(limit)s` records, in the order of the table's key: the fields."""
    return sql.SQL("select {values}\nfrom {table} as r\nwhere {where}\n{order}limit %(limit)s").format(
        values=sql.SQL(", ").join(_values(selection)),
        table=_name(*selection.table.relation.parts),
        where=_where(selection),
        order=_order(selection),
    )


def page(selection: Selection, *, after: bool) -> sql.Composed:
    """At most `%(limit)s` records, of which the last is the one with which their texts reach `%(bytes)s`.

    A row has the fields, then the columns of its key as text, for `key_values`.

    Args:
        selection: of a table with a key.
        after: whether to begin after the record with the key `%(key_0)s`, `%(key_1)s` …
    """
    fields = [sql.Identifier(f"field_{place}") for place in range(len(selection.columns))]
    keys = [sql.Identifier(f"key_{place}") for place in range(len(selection.table.key))]
    named = [sql.SQL("{} as {}").format(*pair) for pair in zip(_values(selection), fields, strict=True)]
    named += [sql.SQL("{} as {}").format(*pair) for pair in zip(_key(selection), keys, strict=True)]
    sizes = [sql.SQL("0"), *_sizes(selection.columns, fields)]
    return sql.SQL(
        "select {names}\n"
        "from (\n"
        "  select\n"
        "    *, sum({size}) over (order by {keys} rows between unbounded preceding and 1 preceding) as size_before\n"
        "  from (\n"
        "    select {named}\n"
        "    from {table} as r\n"
        "    where {where}\n"
        "    {order}\n"
        "    limit %(limit)s\n"
        "  ) as records\n"
        ") as records\n"
        "where coalesce(size_before, 0) < %(bytes)s\n"
        "order by {ordered}"
    ).format(
        names=sql.SQL(", ").join([*fields, *(sql.SQL("{}::pg_catalog.text").format(key) for key in keys)]),
        keys=sql.SQL(", ").join(keys),
        # Unqualified, a name in ORDER BY is that of a column of the result, which is text here.
        ordered=sql.SQL(", ").join(sql.SQL("records.{}").format(key) for key in keys),
        size=sql.SQL(" + ").join(sizes),
        named=sql.SQL(", ").join(named),
        order=_order(selection),
        table=_name(*selection.table.relation.parts),
        where=sql.SQL("\n  and ").join([_where(selection), *([_after(selection)] if after else [])]),
    )


def key_values(key: Sequence[str]) -> dict[str, object]:
    """The parameters of a `page` that begins after the record with this key."""
    return {f"key_{place}": text for place, text in enumerate(key)}


def checks(selection: Selection) -> Iterator[tuple[str, sql.Composed]]:
    """For each condition with a value: its column, and a statement that fails if the value is not one of its type."""
    for place, test in enumerate(selection.conditions):
        if test.value is not None:
            value = _cast(sql.Placeholder(f"value_{place}"), selection.table.columns[test.column])
            yield test.column, sql.SQL("select {}").format(value)


def estimate(selection: Selection) -> sql.Composed:
    """How many records the planner expects, as JSON."""
    return sql.SQL("explain (format json)\nselect 1\nfrom {table} as r\nwhere {where}").format(
        table=_name(*selection.table.relation.parts), where=_where(selection)
    )


def values(selection: Selection, **others: object) -> dict[str, object]:
    """The values of the conditions' parameters, and `others`."""
    return {**{f"value_{place}": test.value for place, test in enumerate(selection.conditions)}, **others}


def _values(selection: Selection) -> Iterator[sql.Composable]:
    for column in selection.columns:
        name, reads = _column(column.name), column.type.reads
        yield sql.SQL(reads).format(*[name] * reads.count("{}"))


def _where(selection: Selection) -> sql.Composed:
    tests: list[sql.Composable] = [sql.SQL("true")]
    for place, test in enumerate(selection.conditions):
        if test.operator == "is null":
            tests.append(sql.SQL("{} is null").format(_column(test.column)))
        else:
            column = selection.table.columns[test.column]
            value = _cast(sql.Placeholder(f"value_{place}"), column)
            tests.append(_compared(_column(test.column), test.operator, value, column))
    return sql.SQL("\n  and ").join(tests)


def _after(selection: Selection) -> sql.Composed:
    """Compares rows as a whole, for which PostgreSQL uses the key's index."""
    columns = selection.table.key_columns
    given = [_cast(sql.Placeholder(f"key_{place}"), column) for place, column in enumerate(columns)]
    row = sql.SQL("({})")
    left, right = (row.format(sql.SQL(", ").join(side)) for side in (_key(selection), given))
    return _compared(left, ">", right, columns[0])


def _compared(left: sql.Composable, operator: str, right: sql.Composable, column: Column) -> sql.Composed:
    """A comparison by the operators of the column's type, whatever the search path has."""
    schema = sql.Identifier(column.type.operators or "pg_catalog")
    return sql.SQL("{} operator({}.{}) {}").format(left, schema, sql.SQL(operator), right)


def _order(selection: Selection) -> sql.Composable:
    if not selection.table.key:
        return sql.SQL("")
    return sql.SQL("order by {}\n").format(sql.SQL(", ").join(_key(selection)))


def _key(selection: Selection) -> list[sql.Composable]:
    return [_column(name) for name in selection.table.key]


def _column(name: str) -> sql.Composable:
    return sql.SQL("r.{}").format(_name(name))


def _name(*parts: str) -> sql.Composable:
    """An identifier in a statement with parameters, where the driver takes `%` for the beginning of a placeholder."""
    return sql.SQL(sql.Identifier(*parts).as_string().replace("%", "%%"))


def _cast(value: sql.Composable, column: Column) -> sql.Composed:
    return sql.SQL("{}::{}").format(value, sql.SQL(column.cast.replace("%", "%%")))


def _sizes(columns: Sequence[Column], names: Sequence[sql.Identifier]) -> Iterator[sql.Composable]:
    """The size in bytes of each field that can be large. PostgreSQL knows it without reading the value."""
    for column, name in zip(columns, names, strict=True):
        if column.type.form is Form.BYTES:
            yield sql.SQL("coalesce(pg_catalog.octet_length({}), 0)").format(name)
        elif column.type.form in (Form.TEXT, Form.JSON):
            yield sql.SQL("coalesce(pg_catalog.octet_length({}::pg_catalog.text), 0)").format(name)
