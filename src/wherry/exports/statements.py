"""Composes the SQL of a selection. All values are named parameters; all identifiers come from the catalog.

Composing takes longer than reading a small page, so statements are cached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from psycopg import sql

from wherry.database.composing import quoted, verbatim
from wherry.exports.filters import Operator
from wherry.exports.selection import Selection
from wherry.tables.model import Column, ReferenceField, Table
from wherry.tables.types import Form


class Shape(NamedTuple):
    """What the SQL of a selection depends on: everything but the values of its conditions."""

    table: Table
    fields: tuple[str, ...]
    tests: tuple[tuple[str, Operator], ...]
    references: tuple[ReferenceField, ...]

    @classmethod
    def of(cls, selection: Selection) -> Shape:
        """The shape of a selection."""
        tests = tuple((test.column, test.operator) for test in selection.conditions)
        return cls(selection.table, selection.fields, tests, selection.shown_references)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the fields."""
        return self.table.columns_of(self.fields, self.references)

    @property
    def shows_key(self) -> bool:
        """Whether the key can be read from the fields: it is one of them, and an integer."""
        others = {name for each in self.references for name in each.fields}
        return self.table.has_integer_key and self.table.key[0] in set(self.fields) - others


@lru_cache(maxsize=256)
def export(shape: Shape) -> str:
    """At most `%(limit)s` records, in the order of the table's key: the fields."""
    return (
        sql.SQL("select {values}\nfrom {table} as r{joins}\nwhere {where}\n{order}limit %(limit)s")
        .format(
            values=sql.SQL(", ").join(_values(shape)),
            table=_table(shape),
            joins=_joins(shape),
            where=_where(shape),
            order=_order(shape),
        )
        .as_string()
    )


@lru_cache(maxsize=256)
def page(shape: Shape, *, after: bool) -> str:
    """At most `%(limit)s` records, of which the last is the one with which their texts reach `%(bytes)s`.

    A row has the fields, then the columns of its key as text, unless the fields show the key; see `key_of`.

    Args:
        shape: of a selection from a table with a key.
        after: whether to begin after the record with the key `%(key_0)s`, `%(key_1)s` …
    """
    fields = [sql.Identifier(f"field_{place}") for place in range(len(shape.fields))]
    named = [sql.SQL("{} as {}").format(*pair) for pair in zip(_values(shape), fields, strict=True)]
    shown: list[sql.Composable] = list(fields)
    if shape.shows_key:
        keys = [fields[shape.fields.index(shape.table.key[0])]]
    else:
        keys = [sql.Identifier(f"key_{place}") for place in range(len(shape.table.key))]
        named += [sql.SQL("{} as {}").format(*pair) for pair in zip(_key(shape), keys, strict=True)]
        shown += [sql.SQL("{}::pg_catalog.text").format(key) for key in keys]
    return (
        sql.SQL(
            "select {shown}\n"
            "from (\n"
            "  select\n"
            "    *,\n"
            "    sum({size}) over (order by {keys} rows between unbounded preceding and 1 preceding) as size_before\n"
            "  from (\n"
            "    select {named}\n"
            "    from {table} as r{joins}\n"
            "    where {where}\n"
            "    {order}"
            "    limit %(limit)s\n"
            "  ) as records\n"
            ") as records\n"
            "where coalesce(size_before, 0) < %(bytes)s\n"
            "order by {ordered}"
        )
        .format(
            shown=sql.SQL(", ").join(shown),
            keys=sql.SQL(", ").join(keys),
            # Unqualified, a name in ORDER BY is that of a column of the result, which may be text here.
            ordered=sql.SQL(", ").join(sql.SQL("records.{}").format(key) for key in keys),
            size=sql.SQL(" + ").join([sql.SQL("0"), *_sizes(shape.columns, fields)]),
            named=sql.SQL(", ").join(named),
            order=_order(shape),
            table=_table(shape),
            joins=_joins(shape),
            where=sql.SQL("\n  and ").join([_where(shape), *([_after(shape)] if after else [])]),
        )
        .as_string()
    )


def key_of(shape: Shape, row: tuple[Any, ...]) -> tuple[str, ...]:
    """The key of a row of a `page`, as text."""
    return (str(row[shape.fields.index(shape.table.key[0])]),) if shape.shows_key else row[len(shape.fields) :]


def key_values(key: Sequence[str]) -> dict[str, object]:
    """The parameters of a `page` that begins after the record with this key."""
    return {f"key_{place}": text for place, text in enumerate(key)}


def checks(selection: Selection) -> Iterator[tuple[str, sql.Composed]]:
    """For each condition with a value: its column, and a statement that fails if the value is not one of its type."""
    for place, test in enumerate(selection.conditions):
        if test.value is not None:
            value = _cast(sql.Placeholder(f"value_{place}"), selection.table.columns[test.column])
            yield test.column, sql.SQL("select {}").format(value)


def estimate(shape: Shape) -> sql.Composed:
    """How many records the planner expects, as JSON."""
    return sql.SQL("explain (format json)\nselect 1\nfrom {table} as r\nwhere {where}").format(
        table=_table(shape), where=_where(shape)
    )


def values(selection: Selection, **others: object) -> dict[str, object]:
    """The values of the conditions' parameters, and `others`."""
    return {**{f"value_{place}": test.value for place, test in enumerate(selection.conditions)}, **others}


def _table(shape: Shape) -> sql.Composable:
    return quoted(*shape.table.relation.parts)


def _values(shape: Shape) -> Iterator[sql.Composable]:
    columns = {name: _column(name) for name in shape.table.columns}
    for place, each in enumerate(shape.references):
        if each.may_lack_key:
            key = _referenced(place, each.key)
            columns[each.column] = sql.SQL("case when {} is null then {} end").format(key, _column(each.column))
    references = {each.name: _key_object(place, each) for place, each in enumerate(shape.references)}
    for name in shape.fields:
        if name in references:
            yield references[name]
        else:
            yield _read(shape.table.columns[name].type.reads, columns[name])


def _joins(shape: Shape) -> sql.Composable:
    """The rows that references name, which have the names `ref_0`, `ref_1` …"""
    parts = [
        sql.SQL("\nleft join {} as {} on {}").format(
            quoted(*each.target.parts),
            sql.Identifier(f"ref_{place}"),
            _compared(_referenced(place, each.referenced), "=", _collated(each), each.referenced),
        )
        for place, each in enumerate(shape.references)
    ]
    return sql.SQL("").join(parts)


def _collated(reference: ReferenceField) -> sql.Composable:
    """The column that refers, in the collation by which PostgreSQL checks its foreign key: that of the other column."""
    column, collation = _column(reference.column), reference.referenced.collation
    return column if collation is None else sql.SQL("{} collate {}").format(column, verbatim(collation))


def _key_object(place: int, reference: ReferenceField) -> sql.Composable:
    """The JSON of a reference, or null if there is none, or the row may lack a key and does."""
    key, reads = _referenced(place, reference.key), reference.key.type.reads_array
    # The JSON of an array is known for every type; that of its only element stands between the brackets.
    array = _read(reads, sql.SQL("array[{}]").format(key))
    value = (
        sql.SQL("pg_catalog.to_json({})::pg_catalog.text").format(key)
        if reads == "{}"
        else sql.SQL("pg_catalog.btrim({}, '[]')").format(array)
    )
    member = msgspec.json.encode(reference.key.name).decode()
    opening = verbatim(sql.Literal(f"{{{member}:").as_string())
    return sql.SQL("case when {} is not null then pg_catalog.concat({}, coalesce({}, 'null'), {}) end").format(
        key if reference.may_lack_key else _column(reference.column), opening, value, sql.Literal("}")
    )


def _referenced(place: int, column: Column) -> sql.Composable:
    return sql.SQL("{}.{}").format(sql.Identifier(f"ref_{place}"), quoted(column.name))


def _read(reads: str, value: sql.Composable) -> sql.Composable:
    return sql.SQL(reads).format(*[value] * reads.count("{}"))


def _where(shape: Shape) -> sql.Composed:
    tests: list[sql.Composable] = [sql.SQL("true")]
    for place, (name, operator) in enumerate(shape.tests):
        if operator == "is null":
            tests.append(sql.SQL("{} is null").format(_column(name)))
        else:
            column = shape.table.columns[name]
            value = _cast(sql.Placeholder(f"value_{place}"), column)
            tests.append(_compared(_column(name), operator, value, column))
    return sql.SQL("\n  and ").join(tests)


def _after(shape: Shape) -> sql.Composed:
    """Compares rows as a whole, for which PostgreSQL uses the key's index."""
    columns = shape.table.key_columns
    given = [_cast(sql.Placeholder(f"key_{place}"), column) for place, column in enumerate(columns)]
    row = sql.SQL("({})")
    left, right = (row.format(sql.SQL(", ").join(side)) for side in (_key(shape), given))
    return _compared(left, ">", right, columns[0])


def _compared(left: sql.Composable, operator: str, right: sql.Composable, column: Column) -> sql.Composed:
    """A comparison by the operators of the column's type, whatever the search path has."""
    schema = sql.Identifier(column.type.operators or "pg_catalog")
    return sql.SQL("{} operator({}.{}) {}").format(left, schema, sql.SQL(operator), right)


def _order(shape: Shape) -> sql.Composable:
    if not shape.table.key:
        return sql.SQL("")
    return sql.SQL("order by {}\n").format(sql.SQL(", ").join(_key(shape)))


def _key(shape: Shape) -> list[sql.Composable]:
    return [_column(name) for name in shape.table.key]


def _column(name: str) -> sql.Composable:
    return sql.SQL("r.{}").format(quoted(name))


def _cast(value: sql.Composable, column: Column) -> sql.Composed:
    return sql.SQL("{}::{}").format(value, verbatim(column.cast))


def _sizes(columns: Sequence[Column], names: Sequence[sql.Identifier]) -> Iterator[sql.Composable]:
    """The size in bytes of each field that can be large. PostgreSQL knows it without reading the value."""
    for column, name in zip(columns, names, strict=True):
        if column.type.form is Form.BYTES:
            yield sql.SQL("coalesce(pg_catalog.octet_length({}), 0)").format(name)
        elif column.type.form in (Form.TEXT, Form.JSON):
            yield sql.SQL("coalesce(pg_catalog.octet_length({}::pg_catalog.text), 0)").format(name)
