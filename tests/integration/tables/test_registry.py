from __future__ import annotations

import asyncio

import psycopg
import pytest

from wherry.database.pools import Pool
from wherry.errors import Misconfigured, UnsupportedResource
from wherry.tables import registry
from wherry.tables.declarations import Declaration, Declarations
from wherry.tables.registry import Tables, exportable_by, find_table, importable_by, require_usable

PRICES = Declarations(tables={"prices": Declaration(table="shop.price", export_roles=("admin", "user"))})


async def test_declared_tables_join_the_built_in_ones_or_replace_them(pool: Pool) -> None:
    assert list(await Tables(pool, PRICES).current()) == ["users", "articles", "comments", "prices"]
    assert list(await Tables(pool, Declarations(builtin=False, tables=PRICES.tables)).current()) == ["prices"]
    own = await Tables(pool, Declarations(tables={"users": Declaration(table="shop.supplier")})).current()
    assert (own["users"].fields, own["users"].is_built_in) == (("id", "email", "parent_id"), False)
    assert own["articles"].is_built_in


async def test_a_role_may_export_what_is_declared_for_it(pool: Pool) -> None:
    declared = Declarations(tables={**PRICES.tables, "suppliers": Declaration(table="shop.supplier")})
    tables = await Tables(pool, declared).current()
    assert {"prices", "suppliers"} <= exportable_by(tables, "admin").keys()
    assert exportable_by(tables, "user").keys() >= {"prices", "users"}
    with pytest.raises(UnsupportedResource, match=r"users, articles, comments, prices$"):
        find_table(exportable_by(tables, "user"), "suppliers")


async def test_a_direction_that_is_not_offered_has_no_roles(pool: Pool) -> None:
    declared = {
        "both": Declaration(table="shop.price"),
        "sources": Declaration(table="shop.price", importable=False),
        "sinks": Declaration(table="shop.price", exportable=False),
    }
    tables = await Tables(pool, Declarations(builtin=False, tables=declared)).current()
    assert list(exportable_by(tables, "admin")) == ["both", "sources"]
    assert list(importable_by(tables, "admin")) == ["both", "sinks"]
    assert exportable_by(tables, "user") == importable_by(tables, "user") == {}


async def test_a_message_lists_some_of_very_many_tables(pool: Pool) -> None:
    many = {f"price{number}": Declaration(table="shop.price") for number in range(200)}
    tables = await Tables(pool, Declarations(builtin=False, tables=many)).current()
    assert len(tables) == 200
    with pytest.raises(UnsupportedResource, match=r"one of price0, .*, price99, …$"):
        find_table(tables, "nothing")


async def test_what_was_read_is_cached_until_it_is_read_again(pool: Pool) -> None:
    tables = Tables(pool, PRICES)
    assert "prices" in await tables.current()
    async with pool.connection() as connection:
        await connection.execute("alter table shop.price add column extra int")
    assert "extra" not in (await tables.current())["prices"].fields
    first, second = await asyncio.gather(tables.reread(), tables.reread())
    assert first is second
    assert "extra" in (await tables.current())["prices"].fields


async def test_the_last_reading_serves_while_the_database_cannot_be_reached(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "CACHE_SECONDS", 0)
    tables, unread = Tables(pool, PRICES), Tables(pool, PRICES)
    found = await tables.current()
    await pool.close()
    assert await tables.current() is found
    with pytest.raises(psycopg.OperationalError):
        await unread.current()


async def test_a_process_starts_only_with_tables_that_can_be_used(pool: Pool, database_url: str) -> None:
    await require_usable(database_url, PRICES)
    broken = Declarations(tables={"a": Declaration(table="shop.prise"), "b": Declaration(table="shop.empty")})
    with pytest.raises(Misconfigured) as refused:
        await require_usable(database_url, broken)
    assert str(refused.value).splitlines() == [
        "tables.a: there is no table shop.prise; did you mean shop.price?",
        "tables.b: shop.empty has no columns that may be shown",
    ]


async def test_a_database_that_cannot_be_reached_is_left_to_the_readiness_check() -> None:
    await require_usable("postgresql://127.0.0.1:1/none", PRICES)
