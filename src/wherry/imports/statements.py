"""Composes the SQL that imports records into a table. All identifiers come from the catalog.

Values are sent as JSON, except to COPY: encoding one text takes the client a tenth of the time of encoding one array
for each column. In that JSON, and so in the table `given` of these statements, a column is called `c` and its position
in the table's `ImportShape.columns`. Composing takes longer than writing a small batch, so statements are cached.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from wherry.database.composing import quoted, verbatim
from wherry.tables.derivation import shape_of
from wherry.tables.model import Column, Reference, ReferenceField, Table, Unique

Composable = sql.Composable

_UPDATE = "update {table} as target\nset {sets}\nfrom {given}\nwhere {same}\nreturning given.i"
_UPDATE_AND_MARK = """
with written as (update {table} as target set {sets} from {given} where {same} returning given.i, {row} as row),
  noted as (insert into wherry.import_rows (job_id, row) select %(job_id)s::pg_catalog.uuid, row from written)
select i from written
"""


@lru_cache(maxsize=1024)
def copy(table: Table, columns: tuple[str, ...]) -> str:
    """New rows, in binary COPY format. It has no parameters, so `%` stands for itself."""
    template = sql.SQL("copy {} ({}) from stdin (format binary)")
    return template.format(table.relation.sql, _list(map(sql.Identifier, columns))).as_string()


@lru_cache(maxsize=1024)
def insert(table: Table, columns: tuple[str, ...]) -> str:
    """New rows from `%(rows)s`, for tables and values that COPY cannot write."""
    return _text(
        "insert into {table} ({columns})\noverriding system value\nselect {values}\nfrom {given}",
        table,
        columns=_list([*map(quoted, columns), *_marker(table)]),
        values=_list([*_values(table, columns), *[sql.SQL("%(job_id)s")] * len(_marker(table))]),
        given=_given(table, columns),
    )


@lru_cache(maxsize=1024)
def insert_defaults(table: Table) -> str:
    """A new row in which nothing is given."""
    return _text("insert into {table} default values", table)


@lru_cache(maxsize=1024)
def update(
    table: Table, by: Unique, columns: tuple[str, ...], *, marks: bool, spared: str | None, keeps_others: bool
) -> str:
    """Set these columns in the rows that `%(rows)s` name by a unique index, and perhaps `mark` them.

    Returns the numbers of those that were found. Rows of which the SQL `spared` is true are left as they are; with
    `keeps_others`, so are those whose values of other unique indexes would change.
    """
    shape = shape_of(table)
    sets = [
        sql.SQL("{} = {}").format(quoted(column), value)
        for column, value in zip(columns, _values(table, columns), strict=True)
    ]
    sets += [sql.SQL("{} = %(job_id)s").format(marker) for marker in _marker(table)]
    if shape.touched is not None and shape.touched not in columns:
        sets.append(sql.SQL("{} = pg_catalog.now()").format(quoted(shape.touched)))
    spare: Composable = sql.SQL("" if spared is None else f" and not ({spared})")
    others = {column for unique in table.uniques for column in unique.columns if not unique.given} - set(by.columns)
    kept = [column for column in columns if keeps_others and column in others]
    for column, value in zip(kept, _values(table, kept), strict=True):
        held = sql.SQL("target.{}").format(quoted(column))
        same = "{} and {}::pg_catalog.text is not distinct from {}::pg_catalog.text"
        spare = sql.SQL(same).format(spare, held, value)
    return _text(
        _UPDATE_AND_MARK if marks else _UPDATE,
        table,
        sets=_list(sets or [sql.SQL("{0} = target.{0}").format(quoted(by.columns[0]))]),
        given=_given(table, tuple(dict.fromkeys((*columns, *by.fields))), numbered=True),
        same=sql.SQL("{}{}").format(_same(table, by), spare),
        row=sql.SQL(row_digest(table)),
    )


@lru_cache(maxsize=1024)
def lookup(table: Table, by: Unique, mine: str) -> str:
    """The rows that `%(rows)s` name: their number in it, and what `Known` needs of each row.

    Args:
        table: to read.
        by: the unique index that records are looked up by.
        mine: the SQL of whether this import wrote the row `target`.
    """
    policy = shape_of(table).policy
    return _text(
        "select given.i, {row}, {mine}, {state}\n"
        "from {given}\n"
        "join {table} as target on {same}\n"
        "order by {order}{lock}",
        table,
        row=sql.SQL(
            # views have no system columns
            "target.tableoid::pg_catalog.int8, target.ctid::pg_catalog.text"
            if table.is_locked
            else f"0, {row_digest(table)}::pg_catalog.text"
        ),
        mine=sql.SQL(mine),
        state=sql.SQL("0" if policy is None else policy.state),
        given=_given(table, by.fields, numbered=True),
        same=_same(table, by),
        order=_list(sql.SQL("target.{}").format(quoted(column)) for column in by.columns),
        lock=sql.SQL("\nfor no key update of target" if table.is_locked else ""),
    )


@lru_cache(maxsize=1024)
def classes(table: Table, by: Unique) -> str:
    """The number of each of `%(rows)s`, and that of the first one that is equal to it.

    A row of the table that never exists gives the values its columns' collations.
    """
    parts = [sql.SQL("c{}").format(sql.Literal(place)) for place in range(len(by.columns))]
    values = zip(_values(table, by.fields), parts, strict=True)
    held = zip((sql.SQL("target.{}").format(quoted(column)) for column in by.columns), parts, strict=True)
    pair = sql.SQL("{} as {}")
    return _text(
        "select i, pg_catalog.min(i) over (partition by {parts})\n"
        "from (select {held}, 0 as i from {table} as target where false\n"
        "  union all select {values}, given.i from {given}) as given",
        table,
        parts=_list(parts),
        held=_list(pair.format(*each) for each in held),
        values=_list(pair.format(*each) for each in values),
        given=_given(table, by.fields, numbered=True),
    )


@lru_cache(maxsize=1024)
def missing(table: Table, reference: Reference) -> str:
    """The numbers of those of `%(rows)s` that refer to a row that does not exist."""
    same = [
        _compared(sql.SQL("target.{}").format(quoted(there)), value, table.columns[here])
        for here, there, value in zip(
            reference.columns, reference.target_columns, _values(table, reference.columns), strict=True
        )
    ]
    return _text(
        "select given.i\nfrom {given}\nwhere not exists (select from {target} as target where {same})",
        table,
        given=_given(table, reference.columns, numbered=True),
        target=quoted(*reference.target.parts),
        same=sql.SQL(" and ").join(same),
    )


@lru_cache(maxsize=1024)
def resolve(reference: ReferenceField) -> str:
    """The numbers of those of `%(rows)s` whose key `k` a row has, and what refers to that row."""
    key, reads = reference.key, reference.referenced.type.reads
    column = sql.SQL("target.{}").format(quoted(reference.referenced.name))
    template = (
        "select given.i, {referenced}\n"
        "from pg_catalog.json_to_recordset(%(rows)s::pg_catalog.json) as given (k {sent}, i pg_catalog.int4)\n"
        "join {target} as target on {same}\nwhere {column} is not null"
    )
    return (
        sql.SQL(template)
        .format(
            referenced=sql.SQL(reads).format(*[column] * reads.count("{}")),
            column=column,
            sent=verbatim(key.type.sent or key.base),  # a length or a precision would change the key
            target=quoted(*reference.target.parts),
            same=_compared(
                sql.SQL("target.{}").format(quoted(key.name)), sql.SQL(key.type.writes.replace("{}", "given.k")), key
            ),
        )
        .as_string()
    )


@lru_cache(maxsize=1024)
def keepers(table: Table) -> str:
    """Lock the rows of which one must remain."""
    policy = shape_of(table).policy
    assert policy is not None
    return _text(
        "select 1 from {table} as target where {where} order by target.id for no key update",
        table,
        where=sql.SQL(policy.keepers_where),
    )


@lru_cache(maxsize=1024)
def mark(table: Table, by: Unique) -> str:
    """Note that this import wrote the rows that `%(rows)s` name."""
    return _text(
        "insert into wherry.import_rows (job_id, row)\nselect distinct %(job_id)s::pg_catalog.uuid, {row}\n"
        "from {given}\njoin {table} as target on {same}\non conflict do nothing",
        table,
        row=sql.SQL(row_digest(table)),
        given=_given(table, by.fields),
        same=_same(table, by),
    )


def marked(table: Table) -> str:
    """The SQL of whether this import has noted the row `target` by `mark`."""
    return (
        "exists (select from wherry.import_rows as written where written.job_id = %(job_id)s"
        f" and written.row = {row_digest(table)})"
    )


def row_digest(table: Table) -> str:
    """The SQL of a digest of what names the row `target`, as it is stored."""
    columns = _list(sql.SQL("target.{}").format(quoted(column)) for column in table.uniques[0].columns)
    row = sql.SQL("row({})::pg_catalog.text").format(columns).as_string()
    return f"pg_catalog.md5({row})::pg_catalog.uuid"


@lru_cache(maxsize=1024)
def unused(table: Table, column: str) -> str:
    """`%(count)s` next values of a column's sequence, without those that a row has."""
    return _text(
        "select drawn.id\nfrom (\n"
        "  select pg_catalog.nextval({sequence}) as id from pg_catalog.generate_series(1, %(count)s)\n"
        ") as drawn\nwhere not exists (select from {table} as target where target.{column} = drawn.id)",
        table,
        sequence=verbatim(sql.Literal(table.columns[column].sequence).as_string()),
        column=quoted(column),
    )


@dataclass(frozen=True, eq=False)
class Expressions:
    """The SQL of a table's defaults and generated columns, and of its CHECK constraints, by name.

    Names are qualified, except those of the table's own columns. Compared by identity, so it can be a cache's key.
    """

    columns: Mapping[str, str]
    checks: Mapping[str, str]


@lru_cache(maxsize=1024)
def judge(
    table: Table, expressions: Expressions, given: tuple[str, ...], unknown: frozenset[str], by: Unique | None
) -> str | None:
    """The numbers of those of `%(rows)s` that break a CHECK constraint, and the positions of these in `table.checks`.

    Each row is judged as it would be stored: columns that are not given have their default or, if `by` names an
    existing row, what that row has. Constraints on columns that are not known are left out; None if all are.

    Args:
        table: to write to.
        expressions: of the table.
        given: the columns whose values are given and valid.
        unknown: the columns whose values are given, but not valid.
        by: the unique index by which the records name existing rows; None if they are new.
    """
    known: dict[str, Composable] = dict(zip(given, _values(table, given), strict=True))
    for column in (table.columns[name] for name in sorted(table.checked_columns)):
        if column.name in known or column.name in unknown or column.is_generated:
            continue
        if by is not None:
            known[column.name] = sql.SQL("target.{}").format(quoted(column.name))
        elif not column.is_drawn:
            known[column.name] = sql.SQL("cast({} as {})").format(
                verbatim(expressions.columns.get(column.name, "null")), verbatim(column.declared)
            )
    checked = {column for check in table.checks for column in check.columns}
    computed: dict[str, Composable] = {
        column.name: verbatim(expressions.columns[column.name])
        for column in table.columns.values()
        if column.is_generated and column.name in checked and not unknown
    }
    tests = [
        sql.SQL("case when not coalesce({}, true) then {} end").format(
            verbatim(expressions.checks[check.name]), sql.Literal(place)
        )
        for place, check in enumerate(table.checks)
        if unknown.isdisjoint(check.columns) and all(column in known or column in computed for column in check.columns)
    ]
    if not tests:
        return None
    pair = sql.SQL("{} as {}")
    number = _number_name(table)
    return _text(
        "select {number}, broken\nfrom (\n"
        "  select {number}, pg_catalog.array_remove(array[{tests}]::pg_catalog.int4[], null) as broken\n"
        "  from (select judged.*{computed} from (\n"
        "    select given.i as {number}, {known}\n    from {given}{join}\n  ) as judged) as judged\n"
        ") as judged\nwhere pg_catalog.cardinality(broken) > 0",
        table,
        number=number,
        tests=_list(tests),
        computed=sql.SQL("").join(sql.SQL(", {} as {}").format(value, quoted(key)) for key, value in computed.items()),
        known=_list(pair.format(value, quoted(key)) for key, value in known.items()),
        given=_given(table, tuple(dict.fromkeys((*given, *(by.fields if by else ())))), numbered=True),
        join=sql.SQL("")
        if by is None
        else sql.SQL("\n    join {} as target on {}").format(quoted(*table.relation.parts), _same(table, by)),
    )


def _number_name(table: Table) -> Composable:
    """A name for the number of a row that no column has."""
    return quoted(next(text for text in ("n" * length for length in itertools.count(1)) if text not in table.columns))


def _text(template: str, table: Table, **parts: Composable) -> str:
    return sql.SQL(template).format(table=quoted(*table.relation.parts), **parts).as_string()


def _list(parts: Iterable[Composable]) -> Composable:
    return sql.SQL(", ").join(parts)


def _marker(table: Table) -> list[Composable]:
    marker = shape_of(table).marker
    return [] if marker is None else [quoted(marker)]


def _places(table: Table, columns: Sequence[str]) -> list[str]:
    shape = shape_of(table)
    return [f"c{shape.columns.index(column)}" for column in columns]


def _given(table: Table, columns: Sequence[str], *, numbered: bool = False) -> Composable:
    definitions: list[Composable] = [
        sql.SQL("{} {}").format(sql.SQL(place), verbatim(_sent(table.columns[column])))
        for place, column in zip(_places(table, columns), columns, strict=True)
    ]
    if numbered:
        definitions.append(sql.SQL("i pg_catalog.int4"))
    return sql.SQL("pg_catalog.json_to_recordset(%(rows)s::pg_catalog.json) as given ({})").format(_list(definitions))


def _sent(column: Column) -> str:
    """The type that PostgreSQL reads a value as. A domain's own type would raise its errors too early."""
    if column.type.sent is not None:
        return column.type.sent
    return column.declared if column.base == column.cast else column.base


def _values(table: Table, columns: Sequence[str]) -> list[Composable]:
    return [
        sql.SQL(table.columns[column].type.writes.replace("{}", f"given.{place}"))
        for place, column in zip(_places(table, columns), columns, strict=True)
    ]


def _same(table: Table, by: Unique) -> Composable:
    return sql.SQL(" and ").join(
        _compared(sql.SQL("target.{}").format(quoted(column)), value, table.columns[column])
        for column, value in zip(by.columns, _values(table, by.fields), strict=True)
    )


def _compared(left: Composable, right: Composable, column: Column) -> Composable:
    operators = quoted(column.type.operators or "pg_catalog")
    return sql.SQL("{} operator({}.=) {}").format(left, operators, right)
