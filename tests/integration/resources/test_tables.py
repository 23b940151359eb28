"""A resource's declaration names what its table has, as the migrations leave it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import LiteralString

import pytest

from wherry.database.pools import Connection, connect
from wherry.resources.model import Resource
from wherry.resources.registry import RESOURCES
from wherry.tables.builtin import BUILT_IN

each = pytest.mark.parametrize("resource", RESOURCES.values(), ids=list(RESOURCES))
COLUMNS: LiteralString = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
CONSTRAINTS: LiteralString = "select conname from pg_constraint where conrelid = %s::regclass"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


async def names(connection: Connection, query: LiteralString, resource: Resource) -> set[str]:
    return {name for (name,) in await (await connection.execute(query, [f"wherry.{resource.name}"])).fetchall()}


def declared_columns(resource: Resource) -> set[str]:
    built_in = BUILT_IN[resource.name]
    filters = (declared.column for declared in built_in.filters)
    return {*built_in.fields, *resource.shape.columns, *resource.references, resource.natural_key, *filters}


@each
async def test_every_declared_column_and_constraint_is_the_tables_own(
    connection: Connection, resource: Resource
) -> None:
    assert declared_columns(resource) <= await names(connection, COLUMNS, resource)
    assert resource.constraints.keys() <= await names(connection, CONSTRAINTS, resource)


@each
async def test_a_column_that_a_migration_adds_disturbs_nothing(connection: Connection, resource: Resource) -> None:
    await connection.execute(f"alter table wherry.{resource.name} add column declared_later text".encode())
    later = declared_columns(resource) | {"declared_later"}
    assert later <= await names(connection, COLUMNS, resource)
