"""What wherry knows about a table: the declaration and the catalog, combined."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from psycopg import sql

from wherry.tables.types import ValueType

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
    """A column that an export may show.

    Attributes:
        name: of the column, and of the field.
        type: how its values are read and written.
        declared: the type in SQL, such as `numeric(12,2)`.
        cast: the same without length and precision, to which SQL can cast a value without changing it.
        is_required: whether it has neither null nor a default.
        is_generated: whether only the database can write it.
        comment: what the schema says about it.
    """

    name: str
    type: ValueType
    declared: str
    cast: str
    is_required: bool = False
    is_nullable: bool = True
    is_generated: bool = False
    comment: str | None = None


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
    """A table that records can be exported from. Compared by identity, so that it can be the key of a cache.

    Attributes:
        name: of the resource, as in requests.
        relation: the table in PostgreSQL.
        columns: those that the schema shows to this role and the declaration does not exclude, by name.
        fields: the fields of a record, in order.
        key: the columns that identify a record and order an export; none if the table has no key.
        filters: what records can be selected by.
        references: the tables that its foreign keys refer to, without itself.
        estimated_rows: as the last ANALYZE counted them, or -1.
        comment: what the schema says about it.
        is_built_in: whether it is one of wherry's own.
        warnings: what to know before exporting it.
    """

    name: str
    relation: TableName
    columns: Mapping[str, Column]
    fields: tuple[str, ...]
    key: tuple[str, ...]
    filters: tuple[Filter, ...] = ()
    references: frozenset[TableName] = frozenset()
    export_roles: tuple[str, ...] = ()
    estimated_rows: int = -1
    comment: str | None = None
    is_built_in: bool = False
    warnings: tuple[str, ...] = ()

    @cached_property
    def has_integer_key(self) -> bool:
        """Whether the key is one integer."""
        return len(self.key) == 1 and self.key_columns[0].type.schema.get("type") == "integer"

    @cached_property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key."""
        return self.columns_of(self.key)

    def columns_of(self, fields: Iterable[str]) -> tuple[Column, ...]:
        """The columns of these fields."""
        return tuple(self.columns[name] for name in fields)


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
