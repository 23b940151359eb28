"""What wherry knows about a table: the declaration and the catalog, combined."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from psycopg import sql

from wherry.tables.shape import FieldRule, ImportShape
from wherry.tables.types import Form, JsonSchema, ValueType

MAX_NAME_CHARACTERS = 200
"""A longer name is not compared: no column has one (PostgreSQL's limit is 63 bytes)."""


@dataclass(frozen=True)
class TableName:
    """The name of a relation in PostgreSQL: as the catalog has it, without quotes."""

    schema: str
    name: str

    def __str__(self) -> str:
        return ".".join(part if _is_plain(part) else '"{}"'.format(part.replace('"', '""')) for part in self.parts)

    @property
    def parts(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def sql(self) -> sql.Identifier:
        return sql.Identifier(*self.parts)


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isidentifier() and name == name.lower()


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that may be shown.

    Attributes:
        name: of the column, and of the field.
        type: how its values are read and written.
        declared: the type in SQL, such as `numeric(12,2)`.
        cast: the same without length and precision, to which SQL can cast a value without changing it.
        base: the same as `cast`, or the type that it restricts if it is a domain.
        collation: by which its texts are compared, quoted as in SQL; None if its values are no texts.
        is_drawn: whether its default is the next value of a sequence.
        is_generated: whether it is computed from other columns.
        is_nullable: whether null is a value.
        is_required: whether it has neither null nor a default.
        is_importable: whether an import can write it.
        is_settable: whether an UPDATE can.
        sequence: the sequence of its default, if it is this column's own and we may move it; quoted as in SQL.
        domain_checks: the error messages for values that break constraints of its domain, by the constraint's name.
        label: what messages call it.
        comment: what the schema says about it.
    """

    name: str
    type: ValueType
    declared: str
    cast: str
    base: str = ""
    collation: str | None = None
    is_drawn: bool = False
    is_generated: bool = False
    is_nullable: bool = True
    is_required: bool = False
    is_importable: bool = True
    is_settable: bool = True
    sequence: str | None = None
    domain_checks: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    comment: str | None = None


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint that imports report by name.

    Attributes:
        name: as in the catalog.
        columns: that it concerns.
        description: the error message for a record that breaks it, if the constraint has one.
        is_hidden: whether it concerns columns that are not shown, so that no message may name it.
    """

    name: str
    columns: tuple[str, ...]
    description: str | None = None
    is_hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Check(Constraint):
    """A CHECK constraint. Its `description` is its comment."""


@dataclass(frozen=True, kw_only=True)
class Unique(Constraint):
    """A unique index of plain columns, which is checked row by row.

    Attributes:
        names_row: whether a record with these columns means the row that has them.
        renews: whether it then updates that row, whatever `onConflict` says.
        given: the fields of a record with the values, if they are not named like the columns. Then only a new row gets
            these values.
    """

    names_row: bool = False
    renews: bool = False
    given: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a record that have its values."""
        return self.given or self.columns


@dataclass(frozen=True, kw_only=True)
class Reference(Constraint):
    """A foreign key."""

    target: TableName
    target_columns: tuple[str, ...]
    target_label: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceField:
    """A field that names a row of another table by its key: `"supplier": {"email": "a@x"}`.

    Attributes:
        name: of the field.
        column: the column that it stands for.
        target: the table with the row.
        referenced: the column of the target that `column` refers to.
        key: the column of the target that names the row, and the one member of the field's values.
        rule: of the key in records that are imported.
        is_nullable: whether null is a value: the row refers to none.
        may_lack_key: whether there may be rows whose key is null, or may not be read.
        label: what messages call the field.
    """

    name: str
    column: str
    target: TableName
    referenced: Column
    key: Column
    rule: FieldRule
    is_nullable: bool
    may_lack_key: bool
    label: str

    @property
    def form(self) -> str:
        """What its values look like, for messages."""
        return f'{{"{self.key.name}": …}}'

    @property
    def schema(self) -> JsonSchema:
        """The JSON Schema of its values that are not null."""
        name = self.key.name
        properties = {name: self.key.type.schema}
        return {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an export that has it in place of `column`. A row without a key has the column."""
        return (self.name, self.column) if self.may_lack_key else (self.name,)

    @cached_property
    def exported(self) -> Column:
        """The column that an export may have in place of `column`."""
        type_ = ValueType(form=Form.JSON, schema=self.schema, is_json=True)
        return Column(name=self.name, type=type_, declared="json", cast="json", label=self.label)


class FilterType(StrEnum):
    """The values that a filter accepts."""

    ID = "id"  # an integer from 1 to 2147483647, or a string of its digits
    TEXT = "text"
    ENUM = "enum"  # one of `choices`, in any case
    BOOLEAN = "boolean"  # true, false, "true", "false"
    PERIOD = "period"  # a date or date-time, or an object of gt, gte, lt, lte
    VALUE = "value"  # a value of the column's type or, if that is ordered, an object of gt, gte, lt, lte


@dataclass(frozen=True)
class Filter:
    """A column that records can be selected by; all filters of a request combine with AND."""

    column: str
    type: FilterType = FilterType.VALUE
    choices: tuple[str, ...] = ()
    nullable: bool = False
    lower_case: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A table that records can be exported from and imported into. Compared by identity, so it can be a cache's key.

    Attributes:
        name: of the resource, as in requests.
        relation: the table in PostgreSQL.
        columns: those that the schema shows to this role and the declaration does not exclude, by name.
        fields: the fields of an export record, in order.
        key: the columns that identify a record and order an export; none if the table has no key.
        filters: what records can be selected by.
        references: the tables that its foreign keys refer to, without itself.
        import_roles: who may import.
        export_roles: who may export.
        uniques: what no two rows may have in common; those that name a row come first, the primary key before others.
        checks: what PostgreSQL checks about each row.
        foreign_keys: the references that it checks.
        reference_fields: the fields by which records may name rows of other tables.
        constraints: all of these, and others that are only known by their names, by name.
        is_copied: whether COPY can write it; otherwise rows are inserted.
        is_locked: whether rows can be locked before they are updated.
        is_updatable: whether we may update rows.
        is_restricted: whether row-level security decides which rows we may read and write.
        has_own_rules: whether triggers or rules may change a row before its constraints are checked.
        estimated_rows: as the last ANALYZE counted them, or -1.
        comment: what the schema says about it.
        policy: how its records are imported, if not as its columns say.
        is_built_in: whether it is one of wherry's own.
        warnings: what to know before it is exported.
    """

    name: str
    relation: TableName
    columns: Mapping[str, Column]
    fields: tuple[str, ...]
    key: tuple[str, ...]
    filters: tuple[Filter, ...] = ()
    references: frozenset[TableName] = frozenset()
    import_roles: tuple[str, ...] = ()
    export_roles: tuple[str, ...] = ()
    uniques: tuple[Unique, ...] = ()
    checks: tuple[Check, ...] = ()
    foreign_keys: tuple[Reference, ...] = ()
    reference_fields: tuple[ReferenceField, ...] = ()
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    is_copied: bool = True
    is_locked: bool = True
    is_updatable: bool = True
    is_restricted: bool = False
    has_own_rules: bool = False
    estimated_rows: int = -1
    comment: str | None = None
    policy: ImportShape | None = None
    is_built_in: bool = False
    warnings: tuple[str, ...] = ()

    @cached_property
    def checked_columns(self) -> frozenset[str]:
        """The columns that decide whether its CHECK constraints hold."""
        named = {name for check in self.checks for name in check.columns}
        is_computed = any(self.columns[name].is_generated for name in named)
        return frozenset(self.columns if is_computed else named)

    @cached_property
    def refers_to_itself(self) -> bool:
        """Whether a row may refer to another row of the table."""
        targets = [each.target for each in self.foreign_keys] + [each.target for each in self.reference_fields]
        return self.relation in targets

    @cached_property
    def has_integer_key(self) -> bool:
        """Whether the key is one integer."""
        return len(self.key) == 1 and self.key_columns[0].type.schema.get("type") == "integer"

    @cached_property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key."""
        return self.columns_of(self.key)

    def label_of(self, field: str) -> str:
        """What messages call a field."""
        if field in self.columns:
            return self.columns[field].label
        return next(each.label for each in self.reference_fields if each.name == field)

    def column_of(self, field: str | None) -> str | None:
        """The column that a field gives; None for None."""
        return next((each.column for each in self.reference_fields if each.name == field), field)

    def columns_of(self, fields: Iterable[str], references: Iterable[ReferenceField] = ()) -> tuple[Column, ...]:
        """The columns of these fields, some of which may be references."""
        columns = {**self.columns, **{each.name: each.exported for each in references}}
        return tuple(columns[name] for name in fields)


def find_column(name: str, columns: Collection[str]) -> str | None:
    """The column that a client names, or None if there is no such column.

    An exact name wins; otherwise `authorId`, `author_id`, `author-id` and `AUTHOR_ID` all name `author_id`.
    """
    if name in columns:
        return name
    name = name.strip()
    if name in columns or len(name) > MAX_NAME_CHARACTERS:
        return name if name in columns else None
    wanted = _bare(name)
    return next((column for column in columns if _bare(column) == wanted), None)


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
