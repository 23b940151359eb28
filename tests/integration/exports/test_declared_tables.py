"""Exports of tables that only a line of TOML declares."""

from __future__ import annotations

import csv
import io
import json
from base64 import b64decode
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.integration.exports.conftest import Exports
from tests.type_values import TYPES, VALUES
from wherry.database.pools import make_pool
from wherry.errors import Invalid
from wherry.exports.page import check_values, open_page
from wherry.exports.requests import make_cursor, parse_export, parse_page
from wherry.jobs.states import Status
from wherry.tables.declarations import Declaration, Declarations
from wherry.tables.types import Form


@pytest.fixture
async def declared(exports: Exports) -> Exports:
    """Exports with a table of a user's own, in which a row has a value of every type, and another has nulls."""
    columns = [f"c{place} {type_}" for place, (type_, _, _) in enumerate(VALUES)]
    async with exports.pool.connection() as connection:
        await connection.execute(TYPES.encode())
        await connection.execute("create schema shop")
        await connection.execute(f"create table shop.everything (id int primary key, {', '.join(columns)})".encode())
        literals = ", ".join(f"%s::{type_}" for type_, _, _ in VALUES)
        await connection.execute(
            f"insert into shop.everything values (1, {literals})".encode(), [text for _, text, _ in VALUES]
        )
        await connection.execute("insert into shop.everything (id) values (2)")
    return replace(exports, declarations=Declarations(tables={"everything": Declaration(table="shop.everything")}))


async def test_every_type_has_its_json(declared: Exports) -> None:
    first, second = (await declared.exported(resource="everything")).splitlines()
    expected = ",".join(f'"c{place}":{text}' for place, (_, _, text) in enumerate(VALUES))
    assert first.decode() == f'{{"id":1,{expected}}}'
    assert json.loads(second) == {"id": 2, **{f"c{place}": None for place in range(len(VALUES))}}


async def test_ndjson_json_csv_and_pages_have_the_same_values(declared: Exports) -> None:
    content = await declared.exported(resource="everything")
    lines = [json.loads(line, parse_float=Decimal) for line in content.splitlines()]
    array = await declared.exported(resource="everything", format="json")
    assert json.loads(array, parse_float=Decimal) == lines
    asked = parse_page({"resource": ["everything"], "format": ["json"]}, await tables(declared), max_limit=10)
    body = b"".join([chunk async for chunk in await open_page(declared.pool, asked)])
    assert json.loads(body, parse_float=Decimal)["data"] == lines
    text = (await declared.exported(resource="everything", format="csv", csvEscapeFormulas=False)).decode()
    header, *cells = csv.reader(io.StringIO(text, newline=""))
    assert header == list(lines[0])
    columns = (await tables(declared))["everything"].columns
    for row, record in zip(cells, lines, strict=True):
        for name, text in zip(header, row, strict=True):
            is_json = columns[name].type.form in (Form.JSON, Form.BOOLEAN)
            read = json.loads(text, parse_float=Decimal) if text and is_json else text or None
            assert read == record[name] or (text, record[name]) == ("", "") or Decimal(text) == Decimal(record[name])


async def tables(exports: Exports) -> Any:
    return await exports.tables().current()


async def declare(exports: Exports, sql: str, **declaration: Any) -> Exports:
    async with exports.pool.connection() as connection:
        await connection.execute(sql.encode())
    return replace(exports, declarations=Declarations(tables={"it": Declaration(**declaration)}))


COMPOSITE = """
create table pairs (a text, b int, c text, primary key (b, a));
insert into pairs select chr(97 + n % 3), n / 3 - 2, 'row ' || n from generate_series(0, 11) n;
"""


async def test_pages_of_a_composite_key_are_the_whole_export_in_its_order(exports: Exports) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    whole = (await shop.exported(resource="it")).splitlines()
    assert [(r["b"], r["a"]) for r in map(json.loads, whole)] == [(b, a) for b in (-2, -1, 0, 1) for a in "abc"]
    cursor, lines = [], []
    for _ in range(4):
        query = {"resource": ["it"], "limit": ["5"], "fields": ["a,b,c"], "cursor": cursor}
        page = await open_page(shop.pool, parse_page(query, await tables(shop), max_limit=10))
        *found, last = b"".join([chunk async for chunk in page]).splitlines()
        lines += found
        following = json.loads(last)["nextCursor"]
        if following is None:
            break
        assert following == page.next_cursor
        cursor = [following]
    assert lines == whole


@pytest.mark.parametrize("cursor", ["x", "!", "5", "WyJhIl0", "bnVsbA", "W10", "[1]", "e" * 5000])
async def test_a_cursor_of_something_else_is_refused(exports: Exports, cursor: str) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    with pytest.raises(Invalid, match="cursor must be the nextCursor of the previous page"):
        parse_page({"resource": ["it"], "cursor": [cursor]}, await tables(shop), max_limit=10)


async def test_a_key_may_be_negative_or_as_large_as_a_bigint(exports: Exports) -> None:
    keys = [-(1 << 63), -1, (1 << 63) - 1]
    values = ", ".join(f"({key})" for key in keys)
    shop = await declare(
        exports, f"create table n (id bigint primary key); insert into n values {values}", table="public.n"
    )
    cursor: list[str] = []
    found = []
    for _ in range(3):
        query = {"resource": ["it"], "limit": ["1"], "cursor": cursor}
        page = await open_page(shop.pool, parse_page(query, await tables(shop), max_limit=10))
        found.append(json.loads(b"".join([chunk async for chunk in page]).splitlines()[0])["id"])
        cursor = [str(page.next_cursor)]
    assert found == keys


async def test_a_table_without_a_key_is_exported_as_a_file_only(exports: Exports) -> None:
    shop = await declare(exports, "create table loose (n int); insert into loose values (1), (1)", table="public.loose")
    assert await shop.exported(resource="it") == b'{"n":1}\n{"n":1}\n'
    with pytest.raises(Invalid, match="it has no key, so it has no pages; export it as a file"):
        parse_page({"resource": ["it"]}, await tables(shop), max_limit=10)
    with pytest.raises(Invalid, match="format mv2 needs a key, but it has none"):
        parse_export({"resource": "it", "format": "mv2"}, await tables(shop))


ODD = '''
create table "Odd ""Name""" (
  "select" int primary key, "a b" text, "ünïcode" text, "UPPER" text, upper text, "class" text,
  "50%s" text, "net, eur" text, "[x]" text, " a" text, a text
);
insert into "Odd ""Name""" values (1, 'a', 'b', 'C', 'd', 'e', 'f', 'g', 'h', 'i', 'j');
'''


async def test_odd_names_are_exact_in_every_format(exports: Exports) -> None:
    shop = await declare(exports, ODD, table='public."Odd ""Name"""')
    record = {"select": 1, "a b": "a", "ünïcode": "b", "UPPER": "C", "upper": "d", "class": "e"}
    record |= {"50%s": "f", "net, eur": "g", "[x]": "h", " a": "i", "a": "j"}
    assert json.loads(await shop.exported(resource="it")) == record
    for name in record:
        assert json.loads(await shop.exported(resource="it", fields=[name])) == {name: record[name]}
    page = await open_page(shop.pool, parse_page({"resource": ["it"]}, await tables(shop), max_limit=10))
    assert json.loads(b"".join([chunk async for chunk in page]).splitlines()[0]) == record
    assert json.loads(await shop.exported(resource="it", fields=["UPPER", "upper"])) == {"UPPER": "C", "upper": "d"}
    text = (await shop.exported(resource="it", format="csv")).decode()
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [{name: str(value) for name, value in record.items()}]
    capsule = await shop.execute(await shop.submit(resource="it", format="mv2"))
    assert capsule.status is Status.SUCCEEDED, capsule.error


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"b": -2}, 3),
        ({"b": "1"}, 3),
        ({"b": {"gte": 0, "lt": 1}}, 3),
        ({"a": "c"}, 4),
        ({"a": "c", "b": {"gt": 0}}, 1),
    ],
)
async def test_the_key_and_indexed_columns_are_filters(exports: Exports, filters: dict[str, Any], rows: int) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    assert (await shop.exported(resource="it", filters=filters)).count(b"\n") == rows


@pytest.mark.parametrize(
    ("filters", "fault"),
    [
        ({"c": "x"}, "filters.c is not a filter of it; use one of b, a"),
        ({"b": True}, "filters.b must be a value of the type integer"),
        ({"b": None}, "filters.b must not be null"),
        ({"b": {}}, "filters.b must be a value, or an object of gt, gte, lt, lte"),
        ({"b": {"eq": 1}}, "filters.b must be a value, or an object of gt, gte, lt, lte"),
        ({"b": {"gt": []}}, "filters.b.gt must be a value of the type integer"),
        ({"a": 1}, "filters.a must be a value of the type text"),
        ({"a": "\0"}, "filters.a must be at most 2000 characters, without NUL and lone surrogates"),
    ],
)
async def test_a_value_that_the_type_cannot_have_is_refused(exports: Exports, filters: Any, fault: str) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    with pytest.raises(Invalid) as refused:
        parse_export({"resource": "it", "filters": filters}, await tables(shop))
    assert fault in str(refused.value)


async def test_a_view_and_a_partitioned_table_are_exported(exports: Exports) -> None:
    sql = """
    create table parted (id int, day date, primary key (id, day)) partition by range (day);
    create table parted_a partition of parted for values from ('2024-01-01') to ('2025-01-01');
    create table parted_b partition of parted for values from ('2025-01-01') to ('2026-01-01');
    insert into parted values (2, '2024-05-01'), (1, '2025-05-01');
    create view recent as select * from parted where day > '2025-01-01';
    """
    shop = await declare(exports, sql, table="public.parted")
    assert await shop.exported(resource="it") == b'{"id":1,"day":"2025-05-01"}\n{"id":2,"day":"2024-05-01"}\n'
    view = replace(shop, declarations=Declarations(tables={"it": Declaration(table="public.recent", key=("id",))}))
    assert await view.exported(resource="it") == b'{"id":1,"day":"2025-05-01"}\n'


async def test_an_export_whose_table_has_lost_a_field_fails_and_says_so(exports: Exports) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    job = await shop.submit(resource="it", fields="a,b,c")
    await shop.sql("alter table pairs drop column c")
    ended = await shop.execute(job)
    assert ended.status is Status.FAILED
    assert ended.error is not None
    assert ended.error["code"] == "DATABASE_ERROR"
    assert ended.error["message"].startswith("The table has changed since the request: it no longer has c")


async def test_an_export_goes_on_if_what_it_uses_has_not_changed(exports: Exports) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    job = await shop.submit(resource="it", fields="a,b")
    await shop.sql("alter table pairs drop column c, add column d int")
    assert (await shop.execute(job)).status is Status.SUCCEEDED


KEYS = [
    ("smallint", ["-1", "0", "32767"]),
    ("numeric(10,3)", ["-1.5", "0.001", "12345.678"]),
    ("double precision", ["-Infinity", "0.1", "1e300"]),
    ("text", ["", "a b", "Ünïcode'\"\\%s"]),
    ("varchar(5)", ["a", "b", "ccccc"]),
    ("char(4)", ["a", "ab", "b   "]),
    ("uuid", [str(UUID(int=number)) for number in (1, 1 << 124, (1 << 128) - 1)]),
    ("date", ["0001-01-01", "2024-02-29", "9999-12-31"]),
    ("time", ["00:00:00", "12:00:00.5", "23:59:59"]),
    ("timestamp", ["2024-01-01T00:00:00", "2024-01-01T00:00:00.000001", "2025-01-01T00:00:00"]),
    ("timestamptz", ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000001Z", "2025-01-01T00:00:00Z"]),
    ("boolean", ["false", "true"]),
    ("mood", ["sad", "it's"]),
    ("sku", ["A", "B-1"]),
    ("inet", ["10.0.0.1", "192.168.0.0/16"]),
    ("interval", ["PT1S", "P1D", "P1M"]),
    ("bytea", ["AA==", "AP8Q"]),
    ("int4range", ["[1,5)", "[2,3)"]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "values"), KEYS, ids=[type_ for type_, _ in KEYS])
async def test_keys_of_every_type_have_pages_and_filters(exports: Exports, type_: str, values: list[str]) -> None:
    async with exports.pool.connection() as connection:
        await connection.execute(TYPES.encode())
        await connection.execute(f"create table t (k {type_} primary key, n int)".encode())
        for place, value in enumerate(values):
            given = b64decode(value) if type_ == "bytea" else value
            await connection.execute(f"insert into t values (%s::{type_}, %s)".encode(), [given, place])
    shop = replace(exports, declarations=Declarations(tables={"it": Declaration(table="public.t")}))
    found, cursor = [], []
    for _ in values:
        query = {"resource": ["it"], "limit": ["1"], "cursor": cursor, "format": ["json"]}
        page = await open_page(shop.pool, parse_page(query, await tables(shop), max_limit=10))
        body = json.loads(b"".join([chunk async for chunk in page]))
        found += body["data"]
        cursor = [str(body["nextCursor"])]
    assert [record["n"] for record in found] == list(range(len(values)))
    is_filter = type_ != "bytea"
    assert [each.column for each in (await tables(shop))["it"].filters] == ["k"] * is_filter
    for record in found if is_filter else ():
        only = await shop.exported(resource="it", filters={"k": record["k"]})
        assert json.loads(only) == record


async def test_names_that_json_escapes_are_exact(exports: Exports) -> None:
    names = ['say "hi"', "back\\slash", "new\nline"]
    columns = ", ".join('"{}" text'.format(name.replace('"', '""')) for name in names)
    shop = await declare(
        exports, f"create table quoted ({columns}); insert into quoted values ('a', 'b', 'c')", table="public.quoted"
    )
    record = dict(zip(names, "abc", strict=True))
    assert json.loads(await shop.exported(resource="it")) == record
    assert json.loads(await shop.exported(resource="it", format="json")) == [record]
    text = (await shop.exported(resource="it", format="csv")).decode()
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [record]


HIJACKED = """
create domain public.text as varchar(2);
create function public.to_json(numeric) returns json language sql as $$ select '"evil"'::json $$;
create function public.lower_than(int, int) returns boolean language sql as 'select false';
create operator public.> (leftarg = int, rightarg = int, function = public.lower_than);
create table t (id int primary key, n numeric, d date, u uuid);
insert into t values (1, 1.5, '2024-01-01', '00000000-0000-0000-0000-000000000001'), (2, null, null, null);
"""


async def test_what_others_put_on_the_search_path_changes_nothing(exports: Exports) -> None:
    shop = await declare(exports, HIJACKED, table="public.t")
    database = psycopg.conninfo.conninfo_to_dict(shop.url)["dbname"]
    await shop.sql(f'alter database "{database}" set search_path = public, pg_catalog')
    await shop.sql(f'alter database "{database}" set extra_float_digits = 0')
    async with make_pool(shop.url, name="tests", max_size=2) as pool:
        fresh = replace(shop, pool=pool)
        line = (await fresh.exported(resource="it", filters={"id": {"gt": 0, "lt": 2}})).decode()
        assert line == '{"id":1,"n":1.5,"d":"2024-01-01","u":"00000000-0000-0000-0000-000000000001"}\n'
        page = await open_page(
            pool, parse_page({"resource": ["it"], "cursor": ["1"]}, await tables(fresh), max_limit=10)
        )
        assert b"".join([chunk async for chunk in page]).startswith(b'{"id":2,')


async def test_types_without_an_order_are_neither_keys_nor_filters(exports: Exports) -> None:
    sql = "create table boxes (size int primary key, place point, doc json); create index on boxes using gist (place)"
    shop = await declare(exports, sql, table="public.boxes")
    found = (await tables(shop))["it"]
    assert [each.column for each in found.filters] == ["size"]
    for column in ("place", "doc"):
        view = replace(
            shop, declarations=Declarations(tables={"it": Declaration(table="public.boxes", filters=(column,))})
        )
        assert "it" not in await tables(view)


async def test_a_job_whose_table_is_no_longer_declared_names_no_other_table(exports: Exports) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    job = await shop.submit(resource="it")
    secret = Declarations(tables={"salaries": Declaration(table="public.pairs")})
    ended = await replace(shop, declarations=secret).execute(job)
    assert ended.error is not None
    assert ended.error["message"] == "The table has changed since the request: it cannot be exported now"


async def test_a_job_for_a_table_is_not_run_on_another_with_its_name(exports: Exports) -> None:
    shop = await declare(exports, COMPOSITE, table="public.pairs")
    job = await shop.submit(resource="it")
    await shop.sql("create table others (a text, b int, c text, primary key (b, a))")
    other = replace(shop, declarations=Declarations(tables={"it": Declaration(table="public.others")}))
    ended = await other.execute(job)
    assert (ended.status, ended.error and ended.error["code"]) == (Status.FAILED, "DATABASE_ERROR")


async def test_a_parent_of_inherited_tables_has_no_key(exports: Exports) -> None:
    sql = (
        "create table parent (id int primary key); create table child () inherits (parent);"
        "insert into parent values (1); insert into child values (1), (1)"
    )
    shop = await declare(exports, sql, table="public.parent")
    assert (await tables(shop))["it"].key == ()
    assert (await shop.exported(resource="it")).count(b"\n") == 3


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("integer", 1.5),
        ("integer", "1e2"),
        ("integer", 1 << 31),
        ("inet", "abc"),
        ("int4range", "x"),
        ("interval", "abc"),
        ("timestamptz", "1704067200x"),
        ("numeric", "sNaN"),
        ("double precision", "1e999"),
        ("sku", "not a sku"),
        ("mood", "glad"),
        ("uuid", "x"),
    ],
)
async def test_a_value_that_postgresql_cannot_read_is_refused(exports: Exports, type_: str, value: object) -> None:
    async with exports.pool.connection() as connection:
        await connection.execute(TYPES.encode())
        await connection.execute(f"create table t (k {type_} primary key)".encode())
        shop = replace(exports, declarations=Declarations(tables={"it": Declaration(table="public.t")}))
        asked = parse_export({"resource": "it", "filters": {"k": value}}, await tables(shop))
        with pytest.raises(Invalid, match=r"filters\.k must be a value of the type"):
            await check_values(connection, asked.selection)
    page = parse_page({"resource": ["it"]}, await tables(shop), json.dumps({"k": value}), max_limit=10)
    with pytest.raises(Invalid, match=r"filters\.k must be a value of the type"):
        await open_page(shop.pool, page)


async def test_a_cursor_that_is_no_key_of_the_table_is_refused(exports: Exports) -> None:
    shop = await declare(exports, "create table t (k uuid primary key)", table="public.t")
    cursor = str(make_cursor((await tables(shop))["it"], ("x",)))
    page = parse_page({"resource": ["it"], "cursor": [cursor]}, await tables(shop), max_limit=10)
    with pytest.raises(Invalid, match="cursor must be the nextCursor"):
        await open_page(shop.pool, page)


async def test_values_as_exports_show_them_are_filters(exports: Exports) -> None:
    sql = "create table t (k timestamptz primary key); insert into t values ('infinity'), ('12024-01-01Z')"
    shop = await declare(exports, sql, table="public.t")
    for line in (await shop.exported(resource="it")).splitlines():
        assert await shop.exported(resource="it", filters=json.loads(line)) == line + b"\n"
