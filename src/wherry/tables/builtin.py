"""The built-in tables. They are declared like any other, with the fields and filters that their clients know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from wherry.database.schema import SCHEMA
from wherry.tables.declarations import Declaration
from wherry.tables.model import Column, Filter, FilterType, Table
from wherry.tables.types import INSTANT, INSTANT_IN_MILLISECONDS, ValueType


@dataclass(frozen=True)
class BuiltIn:
    """A built-in table: its declaration, the fields of a record in order, and its filters."""

    declaration: Declaration
    fields: tuple[str, ...]
    filters: tuple[Filter, ...]

    def apply(self, table: Table) -> Table:
        """The table as it is offered: instants have milliseconds, and other columns are not shown."""
        columns = {name: replace(column, type=_own_type(column)) for name, column in table.columns.items()}
        return replace(table, columns=columns, fields=self.fields, filters=self.filters, is_built_in=True)


def _own_type(column: Column) -> ValueType:
    if column.type == INSTANT:
        return INSTANT_IN_MILLISECONDS
    return replace(column.type, schema={**column.type.schema, "minimum": 1}) if column.name == "id" else column.type


def _declared(name: str) -> Declaration:
    return Declaration(table=f"{SCHEMA}.{name}", export_roles=("admin", "user"))


BUILT_IN: Mapping[str, BuiltIn] = MappingProxyType(
    {
        "users": BuiltIn(
            _declared("users"),
            ("id", "email", "name", "role", "active", "created_at", "updated_at"),
            (
                Filter("id", FilterType.ID),
                Filter("email", FilterType.TEXT, lower_case=True),
                Filter("role", FilterType.ENUM, choices=("user", "admin")),
                Filter("name", FilterType.TEXT),
                Filter("active", FilterType.BOOLEAN),
                Filter("created_at", FilterType.PERIOD),
            ),
        ),
        "articles": BuiltIn(
            _declared("articles"),
            ("id", "slug", "title", "body", "author_id", "tags", "published_at", "status"),
            (
                Filter("id", FilterType.ID),
                Filter("slug", FilterType.TEXT, lower_case=True),
                Filter("status", FilterType.ENUM, choices=("draft", "published")),
                Filter("author_id", FilterType.ID),
                Filter("published_at", FilterType.PERIOD, nullable=True),
                Filter("created_at", FilterType.PERIOD),
            ),
        ),
        "comments": BuiltIn(
            _declared("comments"),
            ("id", "article_id", "user_id", "body", "created_at"),
            (
                Filter("id", FilterType.ID),
                Filter("article_id", FilterType.ID),
                Filter("user_id", FilterType.ID),
                Filter("created_at", FilterType.PERIOD),
            ),
        ),
    }
)
"""In an order in which they can be imported: referenced ones first."""
