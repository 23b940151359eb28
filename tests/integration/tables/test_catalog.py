from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wherry.database.pools import Pool
from wherry.tables.catalog import read_tables
from wherry.tables.declarations import Declaration
from wherry.tables.model import Table, TableName
from wherry.tables.types import Form


async def read(pool: Pool, **declared: Any) -> Table:
    """The one table that is declared."""
    async with pool.connection() as connection:
        found, faults = await read_tables(connection, {"it": msgspec.convert(declared, Declaration)})
    assert not faults, faults
    return found["it"]


async def fault(pool: Pool, **declared: Any) -> str:
    """Why the one table that is declared cannot be used."""
    async with pool.connection() as connection:
        found, faults = await read_tables(connection, {"it": msgspec.convert(declared, Declaration)})
    assert not found
    return faults["it"]


async def test_everything_about_a_table_comes_from_the_catalog(pool: Pool) -> None:
    table = await read(pool, table="shop.price")
    assert table.key == ("tenant", "sku")
    assert [each.column for each in table.filters] == ["tenant", "sku", "state"]
    assert table.references == {TableName("shop", "supplier")}
    assert {name: column.type.form for name, column in table.columns.items()} == {
        "tenant": Form.TEXT,
        "sku": Form.TEXT,
        "amount": Form.NUMBER,
        "label": Form.TEXT,
        "valid": Form.TEXT,
        "state": Form.TEXT,
        "meta": Form.JSON,
        "supplier_id": Form.NUMBER,
        "updated_at": Form.TEXT,
        "doubled": Form.NUMBER,
    }
    assert table.columns["state"].type.schema == {"enum": ["draft", "live", "it's"]}
    assert table.columns["label"].type.schema == {"type": "string", "maxLength": 40}
    assert table.columns["sku"].declared == "shop.sku"
    assert [name for name, column in table.columns.items() if column.is_required] == ["tenant", "sku", "amount"]
    assert [name for name, column in table.columns.items() if column.is_generated] == ["doubled"]


async def test_comments_describe_tables_and_columns(pool: Pool) -> None:
    table = await read(pool, table="shop.supplier")
    assert (table.comment, table.columns["email"].comment) == ("Who sells to us.", "Where orders are sent.")
    assert table.references == frozenset()  # a reference to itself needs no other table first
    assert table.columns["id"].is_drawn


async def test_excluded_columns_are_not_known(pool: Pool) -> None:
    table = await read(pool, table="shop.price", exclude=["amount", "state"])
    assert not {"amount", "state"} & {*table.columns, *table.fields, *(each.column for each in table.filters)}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("no_key", ()),
        ("supplier", ("id",)),
        ("two_keys", ()),
        ("bad_keys", ("b",)),
        ("parted", ("id", "day")),
        ("parted_2024", ("id", "day")),
        ('"Odd ""Name"""', ("select",)),
    ],
)
async def test_the_key_is_the_primary_key_or_the_only_usable_one(pool: Pool, name: str, key: tuple[str, ...]) -> None:
    assert (await read(pool, table=f"shop.{name}")).key == key


async def test_a_key_may_be_declared_in_any_order(pool: Pool) -> None:
    assert (await read(pool, table="shop.price", key=["sku", "tenant"])).key == ("tenant", "sku")
    assert (await read(pool, table="shop.two_keys", key=["b"])).key == ("b",)
    assert (await read(pool, table="shop.live", key=["sku"])).key == ("sku",)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"table": "shop.prise"}, "there is no table shop.prise; did you mean shop.price?"),
        ({"table": "nowhere.price"}, "there is no table nowhere.price"),
        ({"table": 'shop."PRICE"'}, 'there is no table shop."PRICE"'),
        ({"table": "shop.price", "key": ["tenant"]}, "[tenant] is not a key of shop.price"),
        ({"table": "shop.price", "key": ["tenant"]}, "usable here: [tenant, sku]"),
        ({"table": "shop.no_key", "key": ["n"]}, "usable here: none: it needs a unique constraint"),
        ({"table": "shop.bad_keys", "key": ["c"]}, "usable here: [b]"),
        (
            {"table": "shop.price", "exclude": ["amuont"]},
            "exclude: shop.price has no column amuont; did you mean amount?",
        ),
        (
            {"table": "shop.price", "exclude": ["sku"]},
            "the key of shop.price has the column sku, which may not be shown",
        ),
        ({"table": "shop.price", "key": ["tenant", "sk"]}, "key: shop.price has no column sk; did you mean sku?"),
        ({"table": "shop.price", "read_only": ["lable"]}, "read_only: shop.price has no column lable"),
        ({"table": "shop.price", "filters": ["stat"]}, "filters: shop.price has no column stat; did you mean state?"),
        ({"table": "shop.price", "filters": ["meta"]}, "meta cannot be a filter"),
        ({"table": "shop.price", "filters": ["label"], "exclude": ["label"]}, "label is excluded"),
        (
            {"table": "shop.price", "references": {"supplier_id": "email"}, "exclude": ["supplier_id"]},
            "supplier_id is excluded, so it can be neither a filter nor a reference",
        ),
        ({"table": "shop.price", "references": {"nope": "id"}}, "references: shop.price has no column nope"),
        (
            {"table": "shop.price", "references": {"supplier_id": "emial"}},
            "references: shop.supplier has no column emial, or excludes it; did you mean email?",
        ),
        (
            {"table": "shop.price", "references": {"supplier_id": "parent_id"}},
            "references: parent_id of shop.supplier is not unique, so it cannot name a row",
        ),
        (
            {"table": "shop.price", "references": {"label": "email"}},
            "references: label of shop.price is not a foreign key of one column",
        ),
        (
            {"table": "shop.live"},
            "shop.live is a view, so the columns that identify a record must be declared: key = […]",
        ),
        (
            {"table": "shop.roles", "key": ["name"]},
            "shop.roles shows pg_catalog.pg_authid, which belongs to PostgreSQL",
        ),
        ({"table": "shop.empty"}, "shop.empty has no columns that may be shown"),
    ],
)
async def test_a_table_that_cannot_be_used_is_refused_with_the_reason(
    pool: Pool, declared: dict[str, Any], reason: str
) -> None:
    assert reason in await fault(pool, **declared)


async def test_a_reference_has_the_name_of_its_column_without_the_suffix_if_it_is_free(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("alter table shop.price add parent_id bigint references shop.supplier, add parent int")
        await connection.execute("alter table shop.price add maker bigint references shop.supplier, add _id bigint")
        await connection.execute("alter table shop.price add foreign key (_id) references shop.supplier")
    names = ("supplier_id", "parent_id", "maker", "_id")
    table = await read(pool, table="shop.price", references=dict.fromkeys(names, "email"))
    fields = {each.column: each.name for each in table.reference_fields}
    assert fields == {"supplier_id": "supplier", "parent_id": "parent_id", "maker": "maker", "_id": "_id"}
    assert {(each.target, each.referenced.name, each.key.name) for each in table.reference_fields} == {
        (TableName("shop", "supplier"), "id", "email")
    }


async def test_an_excluded_column_is_no_target_of_references(pool: Pool) -> None:
    declared = {
        "prices": Declaration(table="shop.price", references={"supplier_id": "email"}),
        "suppliers": Declaration(table="shop.supplier", exclude=("email",)),
    }
    async with pool.connection() as connection:
        together = await read_tables(connection, declared)
        alone = await read_tables(connection, {"prices": declared["prices"]}, declared.values())
    for found, faults in (together, alone):
        assert "prices" not in found
        assert faults["prices"] == "references: shop.supplier has no column email, or excludes it"


async def test_tables_of_wherry_are_no_targets_of_references(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("create schema if not exists wherry")
        await connection.execute("create table wherry.secret (id int primary key, token text not null unique)")
        await connection.execute("create table shop.guess (id int primary key, secret_id int references wherry.secret)")
    refused = await fault(pool, table="shop.guess", references={"secret_id": "token"})
    assert refused == "references: wherry.secret belongs to wherry itself"


async def test_a_target_that_the_role_may_not_read_is_refused(pool: Pool) -> None:
    declared = {"it": Declaration(table="shop.price", references={"supplier_id": "email"})}
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("create role stranger nosuperuser")
        await connection.execute("grant usage on schema shop to stranger; grant select on shop.price to stranger")
        await connection.execute("set local role stranger")
        _, nothing = await read_tables(connection, declared)
        await connection.execute("reset role; grant select (id) on shop.supplier to stranger")
        await connection.execute("set local role stranger")
        _, too_little = await read_tables(connection, declared)
    for faults in (nothing, too_little):
        assert faults["it"] == "references: the database role may not read the column email of shop.supplier"


UNUSABLE = """
create table shop.indexed (a int not null, b int not null, c int not null, d text not null);
create unique index on shop.indexed (a desc);
create unique index on shop.indexed (b) where b > 0;
create index on shop.indexed (c);
create unique index on shop.indexed (d text_pattern_ops);
"""


@pytest.mark.parametrize("column", ["a", "b", "c", "d"])
async def test_an_index_that_does_not_sort_every_row_once_is_no_key(pool: Pool, column: str) -> None:
    async with pool.connection() as connection:
        await connection.execute(UNUSABLE.encode())
    assert (await read(pool, table="shop.indexed")).key == ()
    assert "usable here: none" in await fault(pool, table="shop.indexed", key=[column])


UNLIKE = """
create extension if not exists citext;
create table shop.words (word citext, n int, primary key (word, n));
create view shop.raw as select meta::json as meta from shop.price;
"""


async def test_a_key_whose_columns_are_not_compared_by_one_operator_cannot_be_used(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute(UNLIKE.encode())
    assert (await read(pool, table="shop.words")).key == ()
    for table, key in (("shop.words", ["word", "n"]), ("shop.raw", ["meta"])):
        assert await fault(pool, table=table, key=key) == (
            f"[{', '.join(key)}] cannot be the key of {table}: its types cannot be compared"
        )


@pytest.mark.parametrize("granted", ["usage on schema shop", "select on shop.price"])
async def test_a_table_that_the_role_may_not_read_is_refused_with_the_grants_that_it_needs(
    pool: Pool, granted: str
) -> None:
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("create role stranger nosuperuser")
        await connection.execute(f"grant {granted} to stranger".encode())
        await connection.execute("set local role stranger")
        _, faults = await read_tables(connection, {"it": Declaration(table="shop.price")})
    assert faults["it"] == (
        'the role "stranger" may not read shop.price; let its owner run: '
        'grant usage on schema "shop" to "stranger"; grant select on "shop"."price" to "stranger"'
    )


async def test_columns_that_the_role_may_not_read_are_left_out(pool: Pool) -> None:
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("create role stranger nosuperuser")
        await connection.execute("grant usage on schema shop to stranger")
        await connection.execute("grant select (id, email) on shop.supplier to stranger")
        await connection.execute("set local role stranger")
        tables, _ = await read_tables(connection, {"it": Declaration(table="shop.supplier")})
    assert tables["it"].fields == ("id", "email")
    assert tables["it"].warnings == ("shop.supplier belongs to the role postgres, which may change it at any time",)


async def test_a_table_whose_row_level_security_does_not_apply_is_named(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("alter table shop.price enable row level security")
    table = await read(pool, table="shop.price")
    assert table.warnings == ("shop.price has row-level security, which does not apply to the role postgres",)


async def test_ten_thousand_declarations_are_read_at_once(pool: Pool) -> None:
    declared = {f"t{number}": Declaration(table=f"shop.t{number}") for number in range(9_999)}
    async with pool.connection() as connection:
        found, faults = await read_tables(connection, {**declared, "prices": Declaration(table="shop.price")})
    assert list(found) == ["prices"]
    assert len(faults) == 9_999
