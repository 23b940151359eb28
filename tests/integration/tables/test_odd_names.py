"""Tables with names that could break quoting, files or terminals, and views that show what is not the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator
from psycopg import sql

from wherry.database.pools import Pool
from wherry.http.table_schemas import components_of
from wherry.tables.adoption import add_to_file, propose
from wherry.tables.catalog import read_tables
from wherry.tables.declarations import Declaration, Declarations, read_declarations
from wherry.tables.model import TableName

ODD_NAMES = (
    *('a"b', "a'b", "a;drop table x;--", "back\\slash", "dot.dot", "%s %(x)s {} {0}", "select", "x-enum-varnames"),
    *("line\nend", "return\r\n", "t\tab", " ", "\x1b[31mred", "\x7f", "\u202ertl", "\u2028"),
    *("ä" * 31 + "x", "漢" * 21, "😀" * 15),
)


@pytest.fixture
async def odd(pool: Pool) -> Pool:
    """A database whose schema `odd` has a table of each name, with a column of that name and comment."""
    async with pool.connection() as connection:
        await connection.execute("create schema odd")
        for name in ODD_NAMES:
            table = sql.Identifier("odd", name)
            column = sql.Identifier(name)
            create = sql.SQL("create table {} (id int primary key, {} text)").format(table, column)
            await connection.execute(create)
            await connection.execute(sql.SQL("comment on column {}.{} is {}").format(table, column, sql.Literal(name)))
    return pool


async def test_tables_with_odd_names_are_added_read_and_described(odd: Pool, tmp_path: Path) -> None:
    path = tmp_path / "tables.toml"
    async with odd.connection() as connection:
        proposal = await propose(connection, "odd.*", Declarations())
        assert proposal.refused == {}
        add_to_file(path, proposal.tables)
        tables, faults = await read_tables(connection, read_declarations(path).tables)
    assert faults == {}
    assert {table.relation for table in tables.values()} == {TableName("odd", name) for name in ODD_NAMES}
    assert len(path.read_bytes().splitlines()) == len(ODD_NAMES) + 1
    components = components_of(tables, ())
    assert len(components) == 2 * len(ODD_NAMES)
    for schema in components.values():
        name = list(schema["properties"])[-1]
        assert Draft202012Validator(schema).is_valid({"id": 1, name: "text"})
        assert not Draft202012Validator(schema).is_valid({"id": 1, name: 1})


@pytest.mark.parametrize(
    ("query", "source"),
    [
        ("select id from wherry.users", "wherry.users"),
        ("select id from odd.other", "wherry.users"),
        ("with u as (select id from wherry.articles) select id from u", "wherry.articles"),
        ("select 1 as id where exists (select from wherry.jobs)", "wherry.jobs"),
        ("select (select count(*) from pg_authid) as id", "pg_catalog.pg_authid"),
        ("select table_name::text as id from information_schema.tables", "information_schema.tables"),
        ("select id from shop.supplier, lateral (select 1 from odd.other) o", "wherry.users"),
    ],
)
@pytest.mark.parametrize("kind", ["view", "materialized view"])
async def test_views_of_tables_that_are_not_the_users_own_are_refused(
    pool: Pool, query: str, source: str, kind: str
) -> None:
    async with pool.connection() as connection:
        await connection.execute("create schema odd; create view odd.other as select id from wherry.users")
        await connection.execute(f"create {kind} odd.it as {query}".encode())
        tables, faults = await read_tables(connection, {"it": Declaration(table="odd.it", key=("id",))})
    assert tables == {}
    assert f"odd.it shows {source}, which belongs to" in faults["it"]


async def test_a_schema_whose_name_differs_in_case_is_the_users_own(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute('create schema "Wherry"; create table "Wherry".users (id int primary key)')
        tables, _ = await read_tables(connection, {"mine": Declaration(table='"Wherry".users')})
        proposal = await propose(connection, "Wherry.*", Declarations())
    assert tables["mine"].fields == ("id",)
    assert [str(table.relation) for table in proposal.tables.values()] == ['"Wherry".users']


async def test_a_table_may_have_a_thousand_columns_and_two_names(pool: Pool) -> None:
    columns = [f"{'ä' * 29}{number:05}" for number in range(1000)]
    async with pool.connection() as connection:
        await connection.execute(f"create table shop.wide ({', '.join(f'{name} text' for name in columns)})".encode())
        declared = {name: Declaration(table="shop.wide", exclude=tuple(columns[1:])) for name in ("one", "two")}
        tables, faults = await read_tables(connection, {**declared, "wide": Declaration(table="shop.wide")})
    assert faults == {}
    assert [list(tables[name].columns) for name in ("one", "two", "wide")] == [columns[:1], columns[:1], columns]
    assert list(components_of(tables, ())["WideImport"]["properties"]) == columns
