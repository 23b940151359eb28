"""Exports in which keys of other tables' rows stand for the columns that refer to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.exports.conftest import Exports
from tests.integration.imports.harness import Bench
from tests.integration.imports.test_declared_tables import PLAIN
from wherry.database.pools import make_pool
from wherry.errors import Forbidden, Invalid
from wherry.exports.page import open_page
from wherry.exports.requests import parse_export, parse_page
from wherry.jobs.states import Status
from wherry.tables.builtin import BUILT_IN
from wherry.tables.declarations import Declaration, Declarations
from wherry.tables.registry import exportable_by

SHOP = """
create schema shop;
create table shop.supplier (
  id bigint generated always as identity primary key,
  email text not null unique,
  parent_id bigint references shop.supplier,
  secret text
);
create table shop.price (id int primary key, supplier_id bigint references shop.supplier, amount numeric);
insert into shop.supplier (email, parent_id) values ('a"é%\\@x', null), ('b@x', 1), ('c@x', 2);
insert into shop.price select n, nullif(n % 4, 0), n from generate_series(1, 9) as n;
"""
SUPPLIERS = Declaration(table="shop.supplier", references={"parent_id": "email"}, export_roles=("admin", "user"))
PRICES = Declaration(table="shop.price", references={"supplier_id": "email"}, export_roles=("admin", "user"))
BUILT_IN_AND_SHOP = Declarations(tables={"suppliers": SUPPLIERS, "prices": PRICES})


@pytest.fixture
async def shop(exports: Exports) -> Exports:
    async with exports.pool.connection() as connection:
        await connection.execute(SHOP.encode())
    return replace(exports, declarations=BUILT_IN_AND_SHOP)


def emails(content: bytes) -> list[str | None]:
    suppliers = [json.loads(line)["supplier"] for line in content.splitlines()]
    return [None if supplier is None else supplier["email"] for supplier in suppliers]


async def paged(exports: Exports, **query: Any) -> bytes:
    tables = await exports.tables().current()
    cursor: list[str] = []
    lines: list[bytes] = []
    while True:
        given = {name: [value] for name, value in query.items()} | {"limit": ["2"], "cursor": cursor}
        page = await open_page(exports.pool, parse_page(given, tables, max_limit=10))
        *found, last = b"".join([chunk async for chunk in page]).splitlines(keepends=True)
        lines += found
        following = json.loads(last)["nextCursor"]
        if following is None:
            return b"".join(lines)
        cursor = [str(following)]


async def test_a_reference_stands_in_the_place_of_its_column(shop: Exports) -> None:
    content = await shop.exported(resource="prices", references="key")
    assert content.splitlines()[0].decode() == '{"id":1,"supplier":{"email":"a\\"é%\\\\@x"},"amount":1}'
    assert emails(content) == ['a"é%\\@x', "b@x", "c@x", None, 'a"é%\\@x', "b@x", "c@x", None, 'a"é%\\@x']
    assert await paged(shop, resource="prices", references="key") == content
    array = await shop.exported(resource="prices", references="key", format="json")
    assert json.loads(array) == [json.loads(line) for line in content.splitlines()]
    csv = await shop.exported(resource="prices", references="key", format="csv", csvEscapeFormulas=False)
    assert csv.decode().splitlines()[:5] == [
        "id,supplier,amount",
        '1,"{""email"":""a\\""é%\\\\@x""}",1'.replace('\\""é', '\\""é'),
        '2,"{""email"":""b@x""}",2',
        '3,"{""email"":""c@x""}",3',
        "4,,4",
    ]


async def test_without_the_option_columns_have_their_own_values(shop: Exports) -> None:
    first = (await shop.exported(resource="prices")).splitlines()[0]
    assert first == b'{"id":1,"supplier_id":1,"amount":1}'


@pytest.mark.parametrize("fields", ["supplier,id", "supplierId,ID", "supplier_id,id,supplier"])
async def test_fields_may_name_a_reference(shop: Exports, fields: str) -> None:
    content = await shop.exported(resource="prices", references="key", fields=fields, filters={"id": {"lte": 2}})
    assert content == b'{"supplier":{"email":"a\\"\xc3\xa9%\\\\@x"},"id":1}\n{"supplier":{"email":"b@x"},"id":2}\n'


async def test_without_the_option_fields_may_not_name_a_reference(shop: Exports) -> None:
    with pytest.raises(Invalid, match="unknown 'supplier'; the fields of prices are id, supplier_id, amount"):
        await shop.exported(resource="prices", fields="supplier")


async def test_filters_are_those_of_the_columns(shop: Exports) -> None:
    declared = replace_references(filters=("supplier_id",))
    place = replace(shop, declarations=declared)
    content = await place.exported(resource="prices", references="key", filters={"supplier_id": 2})
    assert emails(content) == ["b@x", "b@x"]


def replace_references(**changes: Any) -> Declarations:
    prices = msgspec.structs.replace(PRICES, **changes)
    return Declarations(tables={"suppliers": SUPPLIERS, "prices": prices})


async def test_any_other_value_of_the_option_is_refused(shop: Exports) -> None:
    with pytest.raises(Invalid, match="references must be key") as refused:
        await shop.submit(resource="prices", references="id")
    assert refused.value.fields.keys() == {"references"}


@pytest.mark.parametrize(
    "suppliers",
    [
        {},
        {"suppliers": Declaration(table="shop.supplier")},
        {"suppliers": Declaration(table="shop.supplier", exportable=False)},
    ],
)
async def test_it_needs_the_right_to_export_the_other_table(shop: Exports, suppliers: dict[str, Declaration]) -> None:
    place = replace(shop, declarations=Declarations(tables={"prices": PRICES, **suppliers}))
    allowed = exportable_by(await place.tables().current(), "user")
    with pytest.raises(Forbidden, match=r"references=key needs the right to export email of shop\.supplier"):
        parse_export({"resource": "prices", "references": "key"}, allowed)
    with pytest.raises(Forbidden, match="leave supplier out of fields"):
        parse_page({"resource": ["prices"], "references": ["key"]}, allowed, max_limit=10)
    assert parse_export({"resource": "prices", "references": "key", "fields": "id"}, allowed)


async def test_a_right_that_is_lost_before_the_job_runs_fails_it(shop: Exports) -> None:
    await shop.sql("insert into wherry.users (email, username, name, role) values ('u@x', 'u', 'U', 'user')")
    [(owner,)] = await shop.sql("select id from wherry.users")
    place = replace(shop, settings=shop.settings.model_copy(update={"transfer_roles": ("admin", "user")}))
    job = await place.submit(owner, resource="prices", references="key")
    suppliers = Declaration(table="shop.supplier")
    less = replace(place, declarations=Declarations(tables={"prices": PRICES, "suppliers": suppliers}))
    failed = await less.execute(job)
    assert failed.error is not None
    assert (failed.status, failed.error["code"]) == (Status.FAILED, "FORBIDDEN")
    assert (await place.execute(await place.submit(owner, resource="prices", references="key"))).artifact is not None


@pytest.fixture
async def keyless(shop: Exports) -> Exports:
    """A supplier without an e-mail address."""
    await shop.sql("alter table shop.supplier alter email drop not null")
    await shop.sql("update shop.supplier set email = null where id = 1")
    await shop.sql('alter table shop.price rename id to "i""d"')  # msgspec cannot have it as a field's name
    return shop


async def test_a_row_that_refers_to_one_without_a_key_has_the_column(keyless: Exports) -> None:
    content = await keyless.exported(resource="prices", references="key", fields="supplier,amount")
    assert content.splitlines()[:5] == [
        b'{"supplier_id":1,"amount":1}',
        b'{"supplier":{"email":"b@x"},"amount":2}',
        b'{"supplier":{"email":"c@x"},"amount":3}',
        b'{"supplier":null,"amount":4}',
        b'{"supplier_id":1,"amount":5}',
    ]
    assert await paged(keyless, resource="prices", references="key", fields="amount,supplier_id") == (
        await keyless.exported(resource="prices", references="key", fields="amount,supplier")
    )
    csv = await keyless.exported(resource="prices", references="key", format="csv", csvEscapeFormulas=False)
    assert csv.splitlines()[:3] == [
        b'"i""d",supplier,supplier_id,amount',
        b"1,,1,1",
        b'2,"{""email"":""b@x""}",,2',
    ]


@pytest.mark.parametrize("format", ["ndjson", "json", "csv"])
async def test_rows_that_refer_to_one_without_a_key_come_back(keyless: Exports, format: str) -> None:
    rows = await keyless.sql('select "i""d", supplier_id, amount from shop.price order by 1')
    options = {"format": format, "references": "key", "csvEscapeFormulas": False}
    content = await keyless.exported(resource="prices", **options)
    await keyless.sql("truncate shop.price")
    job = await Bench(keyless.pool, keyless.store, keyless.settings, keyless.declarations).run(
        "prices", content, format=format
    )
    assert job.status is Status.SUCCEEDED
    assert await keyless.sql('select "i""d", supplier_id, amount from shop.price order by 1') == rows


async def test_a_row_that_refers_to_one_that_row_level_security_hides_has_the_column(shop: Exports) -> None:
    await shop.sql(PLAIN)
    await shop.sql(
        "grant usage on schema shop to wherry_plain; grant select on all tables in schema shop to wherry_plain"
    )
    await shop.sql("alter table shop.supplier enable row level security")
    await shop.sql("create policy seen on shop.supplier to wherry_plain using (id = 2)")
    conninfo = make_conninfo(shop.pool.conninfo, user="wherry_plain")
    async with make_pool(conninfo, name="plain", max_size=5) as pool:
        content = await paged(replace(shop, pool=pool), resource="prices", references="key", fields="supplier")
    assert content.splitlines()[:4] == [
        b'{"supplier_id":1}',
        b'{"supplier":{"email":"b@x"}}',
        b'{"supplier_id":3}',
        b'{"supplier":null}',
    ]


async def test_a_key_that_may_become_null_before_the_job_runs_is_exported_all_the_same(shop: Exports) -> None:
    job = await shop.submit(resource="prices", references="key", fields="supplier")
    await shop.sql("alter table shop.supplier alter email drop not null; update shop.supplier set email = null")
    content = await shop.content(await shop.execute(job))
    assert content.splitlines()[2:4] == [b'{"supplier_id":3}', b'{"supplier":null}']


async def test_a_column_that_needs_its_own_value_keeps_it_if_a_row_may_lack_the_key(shop: Exports) -> None:
    await shop.sql("create table a (id int primary key, k text unique); insert into a values (1, 'one'), (2, null)")
    await shop.sql("create table b (a int primary key references a); insert into b values (1), (2)")
    await shop.sql("create table c (a_id int primary key references a); insert into c values (1), (2)")
    tables = {
        "as": Declaration(table="public.a"),
        "bs": Declaration(table="public.b", references={"a": "k"}),
        "cs": Declaration(table="public.c", references={"a_id": "k"}),
    }
    place = replace(shop, declarations=Declarations(tables=tables))
    assert await place.exported(resource="bs", references="key") == b'{"a":1}\n{"a":2}\n'
    assert await place.exported(resource="cs", references="key") == b'{"a_id":1}\n{"a_id":2}\n'


KEYS = [
    ("int", "7", "7"),
    ("bigint", "9007199254740993", "9007199254740993"),
    ("numeric(5,2)", "1.50", "1.50"),
    ("numeric", "'NaN'", '"NaN"'),
    ("boolean", "true", "true"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
    ("date", "'2024-02-29'", '"2024-02-29"'),
    ("date", "'infinity'", '"infinity"'),
    ("timestamp", "'2024-02-29 10:00'", '"2024-02-29T10:00:00"'),
    ("timestamptz", "'2024-02-29 10:00Z'", '"2024-02-29T10:00:00Z"'),
    ("inet", "'10.0.0.1'", '"10.0.0.1/32"'),
    ("int4range", "'[1,3)'", '"[1,3)"'),
    ("shop.mood", "'sad'", '"sad"'),
    ("text", "'[a, \"b\"]\n'", '"[a, \\"b\\"]\\n"'),
]


@pytest.mark.parametrize(("type_", "literal", "shown"), KEYS)
async def test_a_key_of_any_type_comes_back(shop: Exports, type_: str, literal: str, shown: str) -> None:
    await shop.sql("create type shop.mood as enum ('sad')")
    await shop.sql(f"create table a (id int primary key, k {type_} not null unique)")
    await shop.sql("create table b (id int primary key, a_id int references a)")
    await shop.sql(f"insert into a values (5, {literal}); insert into b values (1, 5)")
    tables = {"as": Declaration(table="public.a"), "bs": Declaration(table="public.b", references={"a_id": "k"})}
    place = replace(shop, declarations=Declarations(tables=tables))
    content = await place.exported(resource="bs", references="key")
    assert content.decode() == f'{{"id":1,"a":{{"k":{shown}}}}}\n'
    await shop.sql("delete from b")
    bench = Bench(place.pool, place.store, place.settings, place.declarations)
    job = await bench.run("bs", content)
    assert job.status is Status.SUCCEEDED, await bench.errors(job)
    assert await place.sql("select id, a_id from b") == [(1, 5)]


async def test_a_column_may_have_another_collation_than_the_one_that_it_refers_to(shop: Exports) -> None:
    await shop.sql("create collation \"a%%b\" (locale = 'C')")
    await shop.sql('create table a (code text collate "a%%b" primary key, k text not null unique)')
    await shop.sql('create table b (id int primary key, a_id text collate "POSIX" references a)')
    await shop.sql("insert into a values ('x', 'one'); insert into b values (1, 'x')")
    tables = {"as": Declaration(table="public.a"), "bs": Declaration(table="public.b", references={"a_id": "k"})}
    place = replace(shop, declarations=Declarations(tables=tables))
    content = await place.exported(resource="bs", references="key")
    assert content == b'{"id":1,"a":{"k":"one"}}\n' == await paged(place, resource="bs", references="key")
    await shop.sql("delete from b")
    job = await Bench(place.pool, place.store, place.settings, place.declarations).run("bs", content)
    assert job.status is Status.SUCCEEDED
    assert await place.sql("select id, a_id from b") == [(1, "x")]


@pytest.mark.parametrize("format", ["ndjson", "json", "csv"])
async def test_declared_tables_come_back_even_if_their_ids_change(shop: Exports, format: str) -> None:
    options = {"format": format, "references": "key", "csvEscapeFormulas": False}
    suppliers = await shop.exported(resource="suppliers", fields="email,parent", **options)
    prices = await shop.exported(resource="prices", **options)
    await shop.sql("truncate shop.supplier, shop.price")  # the sequence goes on
    bench = Bench(shop.pool, shop.store, shop.settings, shop.declarations)
    for resource, content in (("suppliers", suppliers), ("prices", prices)):
        job = await bench.run(resource, content, format=format)
        assert job.status is Status.SUCCEEDED, await bench.errors(job)
    assert await shop.sql("select count(*) from shop.supplier where id <= 3") == [(0,)]
    assert await shop.exported(resource="suppliers", fields="email,parent", **options) == suppliers
    assert await shop.exported(resource="prices", **options) == prices


@pytest.mark.parametrize("format", ["ndjson", "json", "csv"])
async def test_built_in_tables_come_back_even_if_their_ids_change(exports: Exports, format: str) -> None:
    await exports.fill(8)
    await exports.sql("update wherry.articles set body = trim(body)")  # as an import would have
    fields = {
        "users": "email,name,role,active",
        "articles": "slug,title,body,author,tags,published_at,status",
        "comments": "id,article,user,body",
    }
    options = {"format": format, "references": "key", "csvEscapeFormulas": False}
    first = {name: await exports.exported(resource=name, fields=fields[name], **options) for name in BUILT_IN}
    await exports.sql("truncate wherry.users, wherry.articles, wherry.comments cascade")
    bench = Bench(exports.pool, exports.store, exports.settings)
    for resource, content in first.items():
        job = await bench.run(resource, content, format=format)
        assert job.status is Status.SUCCEEDED, await bench.errors(job)
    assert await exports.sql("select count(*) from wherry.users where id <= 8") == [(0,)]
    again = {name: await exports.exported(resource=name, fields=fields[name], **options) for name in BUILT_IN}
    assert again == first


async def test_a_capsule_has_references(shop: Exports) -> None:
    content = await shop.exported(resource="prices", references="key", format="mv2", filters={"id": 2})
    assert b"b@x" in content


async def test_a_capsule_names_records_by_the_keys_of_the_rows_that_name_them(shop: Exports) -> None:
    await shop.sql("create table note (supplier bigint references shop.supplier, n int, primary key (supplier, n))")
    await shop.sql("insert into note values (2, 7)")
    notes = Declaration(table="public.note", references={"supplier": "email"})
    place = replace(shop, declarations=Declarations(tables={"suppliers": SUPPLIERS, "notes": notes}))
    assert b"mv2://notes/b@x/7" in await place.exported(resource="notes", references="key", format="mv2")
