"""The built-in tables as the catalog describes them, for tests without a database."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.tables.builtin import BUILT_IN
from wherry.tables.model import Column, Table, Unique
from wherry.tables.types import CatalogType, find_type

_OIDS = {"bool": 16, "int4": 23, "text": 25, "text[]": 1009, "timestamptz": 1184}
_TYPES = {
    oid: CatalogType(oid, "pg_catalog", name, name, element=25 if name == "text[]" else None)
    for name, oid in _OIDS.items()
}
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "users": {
        "id": "int4",
        "email": "text",
        "username": "text",
        "name": "text",
        "role": "text",
        "active": "bool",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
    },
    "articles": {
        "id": "int4",
        "slug": "text",
        "title": "text",
        "body": "text",
        "description": "text",
        "author_id": "int4",
        "tags": "text[]",
        "status": "text",
        "published_at": "timestamptz",
        "created_at": "timestamptz",
    },
    "comments": {"id": "int4", "body": "text", "article_id": "int4", "user_id": "int4", "created_at": "timestamptz"},
}


_UNIQUE = {"users": ("id", "email", "username"), "articles": ("id", "slug"), "comments": ("id",)}


def _table(name: str) -> Table:
    columns = {
        column: Column(name=column, type=find_type(_OIDS[type_], -1, _TYPES), declared=type_, cast=type_, base=type_)
        for column, type_ in _COLUMNS[name].items()
    }
    found = Table(
        name=name,
        relation=BUILT_IN[name].declaration.relation,
        columns=columns,
        fields=tuple(columns),
        key=("id",),
        uniques=tuple(Unique(name=f"{name}_{column}", columns=(column,)) for column in _UNIQUE[name]),
    )
    return BUILT_IN[name].apply(found)


TABLES = {name: _table(name) for name in BUILT_IN}
USERS, ARTICLES, COMMENTS = TABLES.values()
