"""What PostgreSQL's catalog says about a schema, for the filler and the faults. Uses nothing of wherry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row


@dataclass(frozen=True)
class Type:
    """A row of `pg_type`, with what it is made of."""

    oid: int
    name: str
    kind: str  # of pg_type.typtype: b(ase), c(omposite), d(omain), e(num), r(ange), m(ultirange), p(seudo)
    base: int
    base_typmod: int
    element: int
    subtype: int
    labels: list[str] | None
    parts: list[int] | None
    is_checked: bool  # has a CHECK of its own


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: int
    typmod: int
    declared: str
    is_nullable: bool
    has_default: bool
    is_numbered: bool  # by an identity or a sequence
    is_identity_always: bool
    is_generated: bool


@dataclass(frozen=True)
class Constraint:
    """A constraint or a unique index of a table.

    Attributes:
        kind: c(heck), f(oreign key), p(rimary key), u(nique), x (exclusion).
        target: the referenced table.
        target_columns: the referenced columns.
        expression: of a CHECK.
        comment: what the schema says about it.
        is_plain: whether a row that repeats another's columns always breaks it.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    target: str | None = None
    target_columns: tuple[str, ...] = ()
    expression: str | None = None
    comment: str | None = None
    is_plain: bool = True


@dataclass(frozen=True)
class Table:
    """A table that is no partition.

    Attributes:
        has_children: whether tables inherit from it, so that it shows their rows, too.
    """

    schema: str
    name: str
    has_children: bool
    columns: Mapping[str, Column]
    constraints: tuple[Constraint, ...]

    @property
    def sql(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @cached_property
    def foreign_keys(self) -> list[Constraint]:
        return [each for each in self.constraints if each.kind == "f"]

    @cached_property
    def written(self) -> list[Column]:
        """The columns that an INSERT may write without an override."""
        return [each for each in self.columns.values() if not each.is_generated and not each.is_identity_always]


@dataclass(frozen=True)
class Catalog:
    """A schema's tables by name, and every type by oid."""

    tables: Mapping[str, Table]
    types: Mapping[int, Type]


TYPES = """
select t.oid::int8 as oid, t.typname::text as name, t.typtype::text as kind, t.typbasetype::int8 as base,
  t.typtypmod as base_typmod,
  case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem else 0 end::int8 as element,
  coalesce(r.rngsubtype, m.rngtypid, 0)::int8 as subtype,
  (select array_agg(enumlabel::text order by enumsortorder) from pg_enum where enumtypid = t.oid) as labels,
  (
    select array_agg(atttypid::int8 order by attnum) from pg_attribute
    where attrelid = t.typrelid and attnum > 0 and not attisdropped
  ) as parts,
  exists (select from pg_constraint where contypid = t.oid and contype = 'c') as is_checked
from pg_type t
left join pg_range r on r.rngtypid = t.oid
left join pg_range m on m.rngmultitypid = t.oid
"""
TABLES = """
select c.relname::text, c.oid::int8, c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid)
from pg_class c
where c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
order by c.relname collate "C"
"""
COLUMNS = """
select a.attname::text as name, a.atttypid::int8 as type, a.atttypmod as typmod,
  format_type(a.atttypid, a.atttypmod) as declared, not a.attnotnull as is_nullable, a.atthasdef as has_default,
  a.attidentity <> '' or coalesce(pg_get_expr(d.adbin, d.adrelid) like 'nextval(%%', false) as is_numbered,
  a.attidentity = 'a' as is_identity_always, a.attgenerated <> '' as is_generated
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
CONSTRAINTS = """
with named (name, kind, relation, numbers, target, target_numbers, expression, comment, is_plain) as (
  select conname::text, contype::text, conrelid, conkey, confrelid, confkey, pg_get_expr(conbin, conrelid),
    obj_description(oid, 'pg_constraint'), true
  from pg_constraint where conrelid = %(oid)s and contype in ('c', 'f', 'x')
  union all
  select c.relname::text, case when i.indisprimary then 'p' else 'u' end, i.indrelid,
    (i.indkey::int2[])[0:i.indnkeyatts - 1], 0, null, null, null, i.indpred is null and i.indexprs is null
  from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %(oid)s and i.indisunique
)
select name, kind, array(
    select a.attname::text from unnest(numbers) with ordinality as n (number, place)
    join pg_attribute a on a.attrelid = relation and a.attnum = number order by place
  ) as columns,
  (select relname::text from pg_class where oid = target) as target,
  array(
    select a.attname::text from unnest(target_numbers) with ordinality as n (number, place)
    join pg_attribute a on a.attrelid = target and a.attnum = number order by place
  ) as target_columns,
  expression, comment, is_plain
from named order by kind, name collate "C"
"""


def in_template(name: sql.Identifier) -> sql.SQL:
    """A name in a statement with parameters, where the driver takes `%` for the beginning of a placeholder."""
    return sql.SQL(name.as_string().replace("%", "%%"))


def read_catalog(connection: psycopg.Connection, schema: str) -> Catalog:
    """The catalog of one schema."""
    with connection.cursor(row_factory=class_row(Type)) as cursor:
        types = {each.oid: each for each in cursor.execute(TYPES.encode())}
    found = connection.execute(TABLES.encode(), {"schema": sql.Identifier(schema).as_string()}).fetchall()
    tables = {name: _table(connection, oid, (schema, name, has_children)) for name, oid, has_children in found}
    return Catalog(tables, types)


def _table(connection: psycopg.Connection, oid: int, described: tuple[str, str, bool]) -> Table:
    with connection.cursor(row_factory=class_row(Column)) as cursor:
        columns = {each.name: each for each in cursor.execute(COLUMNS.encode(), {"oid": oid})}
    with connection.cursor(row_factory=dict_row) as cursor:
        constraints = tuple(
            Constraint(**{**row, "columns": tuple(row["columns"]), "target_columns": tuple(row["target_columns"])})
            for row in cursor.execute(CONSTRAINTS.encode(), {"oid": oid})
        )
    return Table(*described, columns, constraints)
