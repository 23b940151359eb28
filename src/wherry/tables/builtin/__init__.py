"""The built-in tables. They are declared like any other, with the fields and filters that their clients know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from wherry.database.schema import SCHEMA
from wherry.tables.builtin import rules
from wherry.tables.builtin.articles import ARTICLES
from wherry.tables.builtin.comments import COMMENTS
from wherry.tables.builtin.users import USERS
from wherry.tables.declarations import Declaration, Role
from wherry.tables.model import Column, Filter, FilterType, ReferenceField, Table, Unique
from wherry.tables.shape import ImportShape
from wherry.tables.types import INSTANT, INSTANT_IN_MILLISECONDS, ValueType

_KEY_RULES = {"email": rules.ADDRESS, "slug": rules.SLUG}
"""Of the columns by which records of other tables name a row."""


@dataclass(frozen=True)
class BuiltIn:
    """A built-in table.

    Attributes:
        declaration: what `tables.toml` would say.
        fields: of an export record, in order.
        filters: what records can be selected by.
        policy: how its records are imported.
        names: the columns that name a row besides `id`.
        same: columns that get the value of a field, if a row is new.
    """

    declaration: Declaration
    fields: tuple[str, ...]
    filters: tuple[Filter, ...]
    policy: ImportShape
    names: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)

    def apply(self, table: Table) -> Table:
        """The table as it is offered: instants have milliseconds, and other columns are not shown."""
        columns = {
            name: replace(column, type=_own_type(column), label=name.replace("_", " ").capitalize())
            for name, column in table.columns.items()
        }
        uniques = tuple(sorted(map(self._own_unique, table.uniques), key=lambda unique: not unique.names_row))
        return replace(
            table,
            columns=columns,
            fields=self.fields,
            filters=self.filters,
            uniques=uniques,
            checks=(),  # the rules imply them
            foreign_keys=tuple(replace(key, target_label=key.target.name) for key in table.foreign_keys),
            reference_fields=tuple(map(_own_reference, table.reference_fields)),
            policy=self.policy,
            is_built_in=True,
        )

    def _own_unique(self, unique: Unique) -> Unique:
        (column,) = unique.columns
        given = (self.same[column],) if column in self.same else ()
        return replace(unique, names_row=column in ("id", *self.names), renews=column == "id", given=given)


def _own_type(column: Column) -> ValueType:
    if column.type == INSTANT:
        return INSTANT_IN_MILLISECONDS
    return replace(column.type, schema={**column.type.schema, "minimum": 1}) if column.name == "id" else column.type


def _own_reference(field: ReferenceField) -> ReferenceField:
    """The field with the rule that its key has in its own table."""
    return replace(field, rule=_KEY_RULES[field.key.name], label=field.name.capitalize())


def _declared(name: str, **references: str) -> Declaration:
    roles: tuple[Role, ...] = ("admin", "user")
    return Declaration(table=f"{SCHEMA}.{name}", references=references, import_roles=roles, export_roles=roles)


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
            USERS,
            names=("email",),
            same={"username": "email"},
        ),
        "articles": BuiltIn(
            _declared("articles", author_id="email"),
            ("id", "slug", "title", "body", "author_id", "tags", "published_at", "status"),
            (
                Filter("id", FilterType.ID),
                Filter("slug", FilterType.TEXT, lower_case=True),
                Filter("status", FilterType.ENUM, choices=("draft", "published")),
                Filter("author_id", FilterType.ID),
                Filter("published_at", FilterType.PERIOD, nullable=True),
                Filter("created_at", FilterType.PERIOD),
            ),
            ARTICLES,
            names=("slug",),
        ),
        "comments": BuiltIn(
            _declared("comments", article_id="slug", user_id="email"),
            ("id", "article_id", "user_id", "body", "created_at"),
            (
                Filter("id", FilterType.ID),
                Filter("article_id", FilterType.ID),
                Filter("user_id", FilterType.ID),
                Filter("created_at", FilterType.PERIOD),
            ),
            COMMENTS,
        ),
    }
)
"""In an order in which they can be imported: referenced ones first."""
