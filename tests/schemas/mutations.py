"""Breaks one constraint of a valid record at a time, and says how an import must report that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from tests.schemas import json_text
from tests.schemas.catalog import Catalog, Column, Constraint, Table, Type, in_template
from tests.schemas.values import Values, in_array

MISSING, FORMAT, TOO_LONG, ENUM, DUPLICATE, REFERENCE = 1001, 1003, 1004, 1006, 1007, 1008
INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}
TRIES = 200


@dataclass(frozen=True)
class Value:
    """A value: as a text of PostgreSQL, and as JSON."""

    text: str | None
    json: str


NULL = Value(None, "null")

Record = Mapping[str, Value]
Changes = Mapping[str, Value | None]  # None: the field is absent


@dataclass(frozen=True, repr=False)
class Fault:
    """A constraint that can be broken.

    Attributes:
        kind: what it is, for people.
        columns: those that are changed.
        code: of the error.
        field: of the error; None if the constraint has more than one column.
        constraint: its name, if it has one.
        message: what the message must contain.
        change: returns the changes to a record that break it, or None if no such values were found.
    """

    kind: str
    columns: tuple[str, ...]
    code: int
    field: str | None
    constraint: str | None
    message: str
    change: Callable[[Mutations, Record], Changes | None]

    def __repr__(self) -> str:
        return f"{self.kind} {self.constraint or self.field}"

    def is_reported_by(self, error: Mapping[str, object]) -> bool:
        """Whether an error of a report is about this fault."""
        if error["errorCode"] != self.code or self.message not in str(error["message"]):
            return False
        if self.field is not None:
            return error["field"] == self.field
        return not error["field"] and constraint_of(error) == self.constraint


def constraint_of(error: Mapping[str, object]) -> object:
    """The name of the constraint in an error's details."""
    details = error["details"]
    return details.get("constraint") if isinstance(details, dict) else None


class Mutations:
    """The faults of a table's records.

    Args:
        connection: to the database, in a transaction that will be rolled back.
        catalog: of the schema.
        table: whose records are broken.
        values: are drawn from here.
    """

    def __init__(self, connection: psycopg.Connection, catalog: Catalog, table: Table, values: Values) -> None:
        self.connection = connection
        self.catalog = catalog
        self.table = table
        self.values = values

    def faults(self) -> Iterator[Fault]:
        """Every fault that a record of the table can have."""
        for column in self.table.columns.values():
            if not column.is_generated:
                yield from self._of_column(column)
        for constraint in self.table.constraints:
            is_written = not any(self.table.columns[name].is_generated for name in constraint.columns)
            if constraint.is_plain and is_written and (constraint.kind in "cf" or self.rows(constraint)):
                yield self._of_constraint(constraint)

    def apply(self, record: Record, changes: Changes) -> Record:
        """The record with these changes."""
        return {name: value for name, value in {**record, **changes}.items() if value is not None}

    def value(self, type_: int, typmod: int, text: str) -> Value:
        """A value that is valid for a type, or at least for its domain's base type."""
        base, typmod = _base(self.catalog.types, type_, typmod)
        query = f"select {json_text.value(self.catalog, base.oid, 'v')} from (select {{}}::{{}} as v) as t"
        type_name = sql.SQL(self._format_type(base.oid, typmod))
        row = self.connection.execute(sql.SQL(query).format(sql.Literal(text), type_name)).fetchone()
        assert row is not None
        return Value(text, row[0])

    def value_of(self, column: Column, text: str) -> Value:
        """A value for a column that only constraints may refuse."""
        return self.value(column.type, column.typmod, text)

    def outside(self, domain: int) -> str | None:
        """A text that a domain refuses, or None if none was found."""
        drawn = (self.values.base_text(domain, 0.5) for _ in range(TRIES))
        return next((text for text in drawn if not self.values.is_accepted(text, self.catalog.types[domain])), None)

    def rows(self, constraint: Constraint) -> list[tuple[str, ...]]:
        """What the rows of the table have in the columns of a constraint, as texts, unless one is null."""
        names = [sql.Identifier(name) for name in constraint.columns]
        query = sql.SQL("select {} from {} where {}").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names),
            self.table.sql,
            sql.SQL(" and ").join(sql.SQL("{} is not null").format(name) for name in names),
        )
        return sorted(self.connection.execute(query).fetchall())

    def _is_checked(self, type_: int) -> bool:
        found = self.catalog.types.get(type_)
        return found is not None and (found.is_checked or self._is_checked(found.base))

    def _format_type(self, oid: int, typmod: int) -> str:
        row = self.connection.execute(b"select format_type(%s, %s)", [oid, typmod]).fetchone()
        assert row is not None
        return str(row[0])

    def _of_column(self, column: Column) -> Iterator[Fault]:
        base, typmod = _base(self.catalog.types, column.type, column.typmod)
        fault = partial(_fault_of_column, column)
        if not column.is_nullable and not column.is_numbered:
            yield fault("NOT NULL (null)", MISSING, NULL)
            if not column.has_default:
                yield fault("NOT NULL (absent)", MISSING, None)
        if base.name in ("varchar", "bpchar") and typmod > 4:
            yield fault("length", TOO_LONG, _text("X" * (typmod - 3)))
        if base.name in INTEGER_BITS:
            yield fault("range", FORMAT, _number(1 << INTEGER_BITS[base.name] - 1))
        if base.name == "numeric" and typmod > 4:
            digits = (typmod - 4 >> 16) - (((typmod - 4 & 0x7FF) ^ 1024) - 1024)
            yield fault("range", FORMAT, _number(10**digits))
        if base.labels:
            yield fault("enum", ENUM, _text("no such label"))
        if self._is_checked(column.type):
            changed = partial(_break_domain, column)
            yield Fault("domain", (column.name,), FORMAT, column.name, None, "", changed)
        if self._is_checked(base.element):
            changed = partial(_break_element, column)
            yield Fault("domain of elements", (column.name,), FORMAT, column.name, None, "", changed)

    def _of_constraint(self, constraint: Constraint) -> Fault:
        kind, code, change, message = {
            "c": ("CHECK", FORMAT, _break_check, constraint.comment or constraint.name),
            "f": ("foreign key", REFERENCE, _break_reference, ""),
            "p": ("primary key", DUPLICATE, _repeat_a_row, ""),
            "u": ("unique", DUPLICATE, _repeat_a_row, ""),
            "x": ("exclusion", DUPLICATE, _repeat_a_row, ""),
        }[constraint.kind]
        field = constraint.columns[0] if len(constraint.columns) == 1 else None
        changed = partial(change, constraint)
        return Fault(kind, constraint.columns, code, field, constraint.name, message, changed)

    def random_values(self, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
        """Combinations of random values for some columns."""
        for _ in range(TRIES):
            drawn = [self.table.columns[name] for name in columns]
            yield {each.name: self.values.text(each.type, each.typmod, 0.5) for each in drawn}


def _base(types: Mapping[int, Type], oid: int, typmod: int) -> tuple[Type, int]:
    type_ = types[oid]
    while type_.kind == "d":
        type_, typmod = types[type_.base], type_.base_typmod
    return type_, typmod


def _text(text: str) -> Value:
    return Value(text, f'"{text}"')


def _number(number: int) -> Value:
    return Value(str(number), str(number))


def _fault_of_column(column: Column, kind: str, code: int, value: Value | None) -> Fault:
    return Fault(kind, (column.name,), code, column.name, None, "", lambda _, __: {column.name: value})


def _break_domain(column: Column, of: Mutations, record: Record) -> Changes | None:
    text = of.outside(column.type)
    return None if text is None else {column.name: of.value_of(column, text)}


def _break_element(column: Column, of: Mutations, record: Record) -> Changes | None:
    base, _ = _base(of.catalog.types, column.type, column.typmod)
    text = of.outside(base.element)
    if text is None:
        return None
    return {column.name: Value("{" + in_array(text) + "}", f"[{of.value(base.element, -1, text).json}]")}


def _break_check(constraint: Constraint, of: Mutations, record: Record) -> Changes | None:
    columns = [of.table.columns[name] for name in constraint.columns]
    items = sql.SQL(", ").join(
        sql.SQL("%s::{} as {}").format(_escaped(each.declared), in_template(sql.Identifier(each.name)))
        for each in columns
    )
    test = sql.SQL("select ({}) is false from (select {}) as r").format(_escaped(constraint.expression or ""), items)
    for drawn in of.random_values(constraint.columns):
        row = of.connection.execute(test, list(drawn.values())).fetchone()
        if row == (True,):
            return {each.name: of.value_of(each, drawn[each.name]) for each in columns}
    return None


def _break_reference(constraint: Constraint, of: Mutations, record: Record) -> Changes | None:
    target = of.catalog.tables[str(constraint.target)]
    tests = sql.SQL(" and ").join(
        sql.SQL("{} = %s").format(in_template(sql.Identifier(name))) for name in constraint.target_columns
    )
    query = sql.SQL("select from {} where {}").format(in_template(target.sql), tests)
    for drawn in of.random_values(constraint.columns):
        if not of.connection.execute(query, list(drawn.values())).rowcount:
            return {name: of.value_of(of.table.columns[name], text) for name, text in drawn.items()}
    return None


def _repeat_a_row(constraint: Constraint, of: Mutations, record: Record) -> Changes | None:
    row = of.values.random.choice(of.rows(constraint))
    columns = [of.table.columns[name] for name in constraint.columns]
    return {each.name: of.value_of(each, text) for each, text in zip(columns, row, strict=True)}


def _escaped(text: str) -> sql.SQL:
    return sql.SQL(text.replace("%", "%%"))
