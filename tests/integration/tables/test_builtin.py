"""A built-in table's policy names what its table has, as the migrations leave it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wherry.database.pools import Connection, connect
from wherry.tables.builtin import BUILT_IN
from wherry.tables.catalog import read_tables
from wherry.tables.model import Table

each = pytest.mark.parametrize("name", BUILT_IN)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, name="test") as opened:
        yield opened


async def read(connection: Connection, name: str) -> Table:
    tables, faults = await read_tables(connection, {name: BUILT_IN[name].declaration})
    assert faults == {}
    return BUILT_IN[name].apply(tables[name])


def named_columns(name: str) -> set[str]:
    built_in = BUILT_IN[name]
    shape = built_in.policy
    own = {column for column in (shape.marker, shape.touched) if column is not None}
    return {*built_in.fields, *shape.columns, *built_in.names, *built_in.same, *own} | {
        each.column for each in built_in.filters
    }


@each
async def test_every_named_column_is_the_tables_own(connection: Connection, name: str) -> None:
    assert named_columns(name) <= (await read(connection, name)).columns.keys()


@each
async def test_a_column_that_a_migration_adds_disturbs_nothing(connection: Connection, name: str) -> None:
    before = await read(connection, name)
    await connection.execute(f"alter table wherry.{name} add column declared_later text".encode())
    after = await read(connection, name)
    assert (before.fields, before.uniques) == (after.fields, after.uniques)


@each
async def test_its_constraints_have_their_fields(connection: Connection, name: str) -> None:
    table = await read(connection, name)
    expected = {
        "users": {("id",), ("email",)},
        "articles": {("id",), ("slug",)},
        "comments": {("id",)},
    }
    assert {unique.fields for unique in table.uniques} == expected[name]
    assert {key.columns for key in table.foreign_keys} == {
        "users": set(),
        "articles": {("author_id",)},
        "comments": {("article_id",), ("user_id",)},
    }[name]
