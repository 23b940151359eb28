"""Imports into tables that only a line of TOML declares."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.imports.harness import Bench
from tests.type_values import TYPES, VALUES
from wherry.database.pools import make_pool
from wherry.imports.models import ImportOptions, OnConflict
from wherry.tables.declarations import Declaration, Declarations

UPDATE, SKIP = ImportOptions(OnConflict.UPDATE), ImportOptions(OnConflict.SKIP)
BOTH = ImportOptions(dry_run=True), ImportOptions()

SHOP = """
create schema shop;
create type shop.state as enum ('draft', 'live');
create domain shop.sku as text check (value ~ '^[A-Z0-9-]+$');
create table shop.supplier (
  id bigint generated always as identity primary key,
  email text not null unique,
  parent_id bigint references shop.supplier
);
create table shop.price (
  tenant uuid,
  sku shop.sku,
  amount numeric(12, 2) not null constraint amount_not_negative check (amount >= 0),
  label varchar(5) unique,
  valid daterange,
  state shop.state not null default 'draft',
  meta jsonb,
  supplier_id bigint references shop.supplier,
  updated_at timestamptz not null default now(),
  doubled numeric generated always as (amount * 2) stored constraint doubled_is_small check (doubled < 1000),
  constraint live_has_supplier check (state <> 'live' or supplier_id is not null),
  primary key (tenant, sku)
);
comment on constraint live_has_supplier on shop.price is 'What is live must have a supplier.';
insert into shop.supplier (email) values ('a@x'), ('b@x');
"""
TENANT = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def price(sku: str, **fields: Any) -> dict[str, Any]:
    """A valid price."""
    return {"tenant": TENANT, "sku": sku, "amount": 1.5, **fields}


async def declare(bench: Bench, sql: str, **tables: str | Declaration) -> Bench:
    """The same bench, with tables."""
    async with bench.pool.connection() as connection:
        await connection.execute(sql.encode())
    declared = {name: Declaration(table=table) if isinstance(table, str) else table for name, table in tables.items()}
    return replace(bench, declarations=Declarations(tables=declared))


@pytest.fixture
async def shop(bench: Bench) -> Bench:
    return await declare(bench, SHOP, prices="shop.price", suppliers="shop.supplier")


async def reported(bench: Bench, resource: str, records: list[Any], **request: Any) -> list[tuple[Any, ...]]:
    """The index, code, field and constraint of every error."""
    job = await bench.run(resource, records, **request)
    return [
        (error["recordIndex"], error["errorCode"], error["field"], (error["details"] or {}).get("constraint"))
        for error in await bench.errors(job)
    ]


@pytest.fixture
async def everything(bench: Bench) -> Bench:
    columns = ", ".join(f"c{place} {type_}" for place, (type_, _, _) in enumerate(VALUES))
    return await declare(
        bench, f"{TYPES} create table public.everything (id int primary key, {columns})", everything="public.everything"
    )


@pytest.mark.parametrize("options", [ImportOptions(), UPDATE], ids=["insert", "update"])
async def test_a_value_of_every_type_is_stored_as_it_was_exported(everything: Bench, options: ImportOptions) -> None:
    if options is UPDATE:
        numbers = range(len(VALUES))
        await everything.do("insert into everything (id) select unnest(%s::int[])", list(numbers))
    lines = [f'{{"id": {n}, "c{n}": {text}}}'.encode() for n, (_, _, text) in enumerate(VALUES)]
    job = await everything.run("everything", lines, options=options)
    assert await everything.faults(job) == []
    for number, (type_, literal, _) in enumerate(VALUES):
        (row,) = await everything.rows(
            f"select c{number}::text as stored, (%s::{type_})::text as expected from everything where id = {number}",
            literal,
        )
        expected = row["expected"].replace("\n", " ") if "json" in type_ else row["expected"]  # as it is exported
        assert row["stored"] == expected, type_


async def test_a_row_with_every_type_is_stored_by_one_record(everything: Bench) -> None:
    body = ", ".join(f'"c{n}": {text}' for n, (_, _, text) in enumerate(VALUES))
    job = await everything.run("everything", [f'{{"id": 1, {body}}}'.encode(), b'{"id": 2}'])
    assert await everything.faults(job) == []
    (row,) = await everything.rows("select * from everything where id = 2")
    assert set(row.values()) == {2, None}


HUGE = "1e" + "9" * 30  # the exponent is too large even for a Decimal
BAD_VALUES = [
    ("smallint", "32768", 1003),
    ("integer", "1.0", 1002),
    ("integer", '"x"', 1002),
    ("integer", "1e999", 1002),
    ("integer", "1e9999", 1002),
    ("integer", "1e9999999999999999999", 1002),
    ("integer", "9" * 5000, 1003),
    ("integer", "true", 1002),
    ("bigint", '"9223372036854775808"', 1003),
    ("boolean", '"t"', 1002),
    ("numeric", '"x"', 1002),
    ("numeric", "true", 1002),
    ("numeric", "1e9999999999999999999", 1003),
    ("numeric", '"-1e-9999999999999999999"', 1003),
    ("numeric[]", "[[1e9999999999999999999]]", 1003),
    ("real", '"x"', 1002),
    ("real", "true", 1002),
    ("numeric(5,2)", "1000", 1003),
    ("numeric", HUGE, 1003),
    ("numeric", f'"{HUGE}"', 1003),
    ("numeric[]", f"[{HUGE}]", 1003),
    ("integer", HUGE, 1002),
    ("real", HUGE, 1003),
    ("money", HUGE, 1003),
    ("jsonb", HUGE, 1003),
    ("text", HUGE, 1002),
    ("date", HUGE, 1002),
    ("real", "1e39", 1003),
    ("double precision", "1e309", 1003),
    ("money", "1e30", 1003),
    ("text", '"\\u0000"', 1003),
    ("text", "1", 1002),
    ("text[]", '["\\u0000"]', 1003),
    ("jsonb[]", '[{"a": "\\u0000"}]', 1003),
    ("inet[]", '["\\u0000"]', 1003),
    ("varchar(3)", '"abcd"', 1004),
    ("uuid", '"a0eebc99"', 1003),
    ("bytea", '"?"', 1003),
    ("date", '"2024-02-30"', 1003),
    ("date", "20240101", 1002),
    ("time", '"25:00"', 1003),
    ("timestamp", '"2024-01-01T00:00:00+02:00"', 1003),
    ("timestamp", '"2024-01-01 00:00:00 Europe/Paris"', 1003),
    ("date", '"2024-01-01T10:00:00Z"', 1003),
    ("timestamptz", '"yesterday morning"', 1003),
    ("interval", '"soon"', 1003),
    ("jsonb", '{"a": "\\u0000"}', 1003),
    ("mood", '"glad"', 1006),
    ("mood[]", '["glad"]', 1006),
    ("sku", '"a b"', 1003),
    ("integer[]", "[[1],[2,3]]", 1003),
    ("integer[]", "1", 1002),
    ("int4range", '"[5,1]"', 1003),
    ("inet", '"300.0.0.0"', 1003),
    ("bit(3)", '"10"', 1003),
    ("pair", '"(1)"', 1003),
]


@pytest.mark.parametrize("options", BOTH, ids=["dry run", "for real"])
async def test_a_bad_value_of_every_type_is_reported_under_its_field(bench: Bench, options: ImportOptions) -> None:
    columns = ", ".join(f"c{place} {type_}" for place, (type_, _, _) in enumerate(BAD_VALUES))
    place = await declare(bench, f"{TYPES} create table bad (id int primary key, {columns})", bad="public.bad")
    lines = [f'{{"id": {n}, "c{n}": {text}}}'.encode() for n, (_, text, _) in enumerate(BAD_VALUES)]
    together = ", ".join(f'"c{n}": {text}' for n, (_, text, _) in enumerate(BAD_VALUES))
    lines += [f'{{"id": 1000, {together}}}'.encode(), b'{"id": 1001}']
    found = [error[:3] for error in await reported(place, "bad", lines, options=options)]
    singly = [(n, code, f"c{n}") for n, (_, _, code) in enumerate(BAD_VALUES)]
    assert [error for error in found if error[0] < len(BAD_VALUES)] == singly
    assert sorted(found[len(BAD_VALUES) :]) == sorted((len(BAD_VALUES), code, field) for _, code, field in singly)


SPELLINGS = [
    ("bigint", '"-12"', "-12"),
    ("numeric", '" 1.50 "', "1.50"),
    ("numeric", '"-inf"', "-Infinity"),
    ("real", '"1.5"', "1.5"),
    ("double precision", '"nan"', "NaN"),
    ("varchar(3)", '"abc  "', "abc"),
    ("uuid", '"{A0EEBC99-9C0B4EF8BB6D-6BB9BD380A11}"', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("date", '"Jan 2 2024"', "2024-01-02"),
    ("timestamp", '"2024-01-02 10:00:00 PM"', "2024-01-02 22:00:00"),
    ("timestamptz", '"2024-01-02 10:00:00 Europe/Paris"', "2024-01-02 09:00:00+00"),
    ("integer[]", '[["1", null]]', "{{1,NULL}}"),
    ("integer[]", "[[], []]", "{}"),
]


async def test_other_spellings_of_a_value_are_read_as_postgresql_reads_them(bench: Bench) -> None:
    columns = ", ".join(f"c{place} {type_}" for place, (type_, _, _) in enumerate(SPELLINGS))
    place = await declare(bench, f"create table t (id int primary key, {columns})", t="public.t")
    job = await place.run("t", [f'{{"id": {n}, "c{n}": {text}}}'.encode() for n, (_, text, _) in enumerate(SPELLINGS)])
    assert await place.faults(job) == []
    for number, (type_, _, stored) in enumerate(SPELLINGS):
        (row,) = await place.rows(f"select c{number}::text as stored from t where id = {number}")
        assert row["stored"] == stored, type_


async def test_absent_is_not_null(shop: Bench) -> None:
    records = [price("A"), price("B", state=None), price("C", valid=None, label=None), {"sku": "D", "tenant": TENANT}]
    assert await reported(shop, "prices", records) == [(1, 1001, "state", None), (3, 1001, "amount", None)]
    await shop.run("prices", [price("A", label="l", meta={"a": 1})], options=UPDATE)
    await shop.run("prices", [{"tenant": TENANT, "sku": "A", "label": None}], options=UPDATE)
    (row,) = await shop.rows("select amount, label, meta, state::text from shop.price where sku = 'A'")
    assert (float(row["amount"]), row["label"], row["meta"], row["state"]) == (1.5, None, {"a": 1}, "draft")


async def test_every_fault_of_a_record_is_reported_at_once(shop: Bench) -> None:
    await shop.run("prices", [price("OLD", label="taken")])
    records: list[Any] = [
        price("A"),
        price("a b", amount=-1, state="live", label="too long"),
        price("B", amount=600, supplier_id=99),
        price("OLD"),
        price("C", label="taken"),
        price("D", label="new"),
        price("E", label="new"),
        price("D"),
        {"amount": None, "valid": "x", "supplier_id": 98},
        price("F", amount=12345678901),
        price("G", label="taken", supplier_id=97),
    ]
    found = await reported(shop, "prices", records)
    assert [error for error in found if error[0] == 1] == [
        (1, 1004, "label", None),
        (1, 1003, "sku", "sku_check"),
        (1, 1003, "amount", "amount_not_negative"),
        (1, 1003, None, "live_has_supplier"),
    ]
    assert [error for error in found if error[0] not in (1, 8)] == [
        (2, 1003, "doubled", "doubled_is_small"),
        (2, 1008, "supplier_id", "price_supplier_id_fkey"),
        (3, 1007, None, "price_pkey"),
        (4, 1007, "label", "price_label_key"),
        (6, 1007, "label", "price_label_key"),
        (7, 1007, None, "price_pkey"),
        (9, 1003, "amount", None),
        (10, 1007, "label", "price_label_key"),
        (10, 1008, "supplier_id", "price_supplier_id_fkey"),
    ]
    assert sorted(error[1:3] for error in found if error[0] == 8) == [
        (1001, "amount"),
        (1001, "sku"),
        (1001, "tenant"),
        (1003, "valid"),
        (1008, "supplier_id"),
    ]
    job = await shop.run("prices", [price("X", state="live")])
    (error,) = await shop.errors(job)
    assert error["message"] == "state, supplier_id: What is live must have a supplier."


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_a_later_record_with_the_same_key_is_a_duplicate(shop: Bench, batch: int) -> None:
    records = [price(f"S-{n % 4}", amount=n) for n in range(8)]
    small = shop.with_settings(import_batch_size=batch)
    for options in (UPDATE, ImportOptions()):
        found = await reported(small, "prices", records, options=options)
        first = 4 if options is UPDATE else 0
        assert found == [(n, 1007, None, "price_pkey") for n in range(first, 8)]
        rows = await shop.rows("select sku, amount::int from shop.price order by sku")
        assert [(row["sku"], row["amount"]) for row in rows] == [(f"S-{n}", n) for n in range(4)]
    await small.do("truncate shop.price")
    job = await small.run("prices", [price("OLD")])
    job = await small.run("prices", [*records[:5], price("OLD")])
    assert [error["message"].partition(" is ")[2] for error in await small.errors(job)] == [
        "duplicated in this import",
        "already in use",
    ]
    job = await small.run("prices", records, options=SKIP)
    assert (job.success_count, job.error_count) == (8, 0)
    assert await shop.rows("select * from wherry.import_rows") == []


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_a_row_is_updated_by_the_first_of_its_records_only(shop: Bench, batch: int) -> None:
    small = shop.with_settings(import_batch_size=batch)
    await small.run("prices", [price(f"S-{n}", amount=50) for n in range(4)])
    records = [price(f"S-{n % 4}", amount=n) for n in range(8)]
    found = await reported(small, "prices", records, options=UPDATE)
    assert found == [(n, 1007, None, "price_pkey") for n in range(4, 8)]
    assert await shop.rows("select amount::int from shop.price order by sku") == [{"amount": n} for n in range(4)]


async def test_ids_are_kept_and_sequences_move_past_them(shop: Bench) -> None:
    records: list[dict[str, Any]] = [{"id": 50, "email": "c@x"}, {"email": "d@x"}, {"id": "70", "email": "e@x"}]
    job = await shop.run("suppliers", records)
    assert await shop.faults(job) == []
    found = await shop.rows("select id, email from shop.supplier order by id")
    ids = {row["email"]: row["id"] for row in found}
    assert (ids["c@x"], ids["e@x"]) == (50, 70)
    (new,) = await shop.rows("insert into shop.supplier (email) values ('f@x') returning id")
    assert new["id"] > max(ids.values())
    assert new["id"] < 1000


async def test_an_id_that_the_sequence_has_not_passed_yet_is_not_given_twice(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id serial primary key, n int); insert into t select n, n from generate_series(1, 1000) n",
        t="public.t",
    )
    job = await place.run("t", [{"n": n} for n in range(250)])
    assert (job.success_count, job.error_count) == (250, 0)


async def test_a_row_that_is_named_by_either_key_is_updated(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id int primary key, code text not null unique, n int);"
        "insert into t values (1, 'a', 0), (2, 'b', 0), (4, 'd', 0), (5, 'e', 0)",
        t=Declaration(table="public.t", key=("code",)),
    )
    records = [{"code": "a", "n": 1}, {"id": 2, "n": 2}, {"id": 1, "code": "b", "n": 3}, {"id": 3, "code": "c", "n": 4}]
    records += [{"id": 4, "code": "e", "n": 5}, {"code": "a", "n": 6}]
    assert await reported(place, "t", records, options=UPDATE) == [
        (2, 1007, "id", "t_pkey"),
        (4, 1007, "id", "t_pkey"),
        (5, 1007, "code", "t_code_key"),
    ]
    rows = await place.rows("select id, code, n from t order by id")
    assert [tuple(row.values()) for row in rows] == [(1, "a", 1), (2, "b", 2), (3, "c", 4), (4, "d", 0), (5, "e", 0)]
    assert (await reported(place, "t", records))[:4] == [
        (0, 1007, "code", "t_code_key"),
        (0, 1001, "id", None),
        (1, 1007, "id", "t_pkey"),
        (1, 1001, "code", None),
    ]


async def test_keys_are_compared_as_postgresql_does(bench: Bench) -> None:
    place = await declare(
        bench,
        "create extension if not exists citext;create table t (k citext, d date, n int, primary key (k, d))",
        t="public.t",
    )
    day = "2024-01-02"
    records = [{"k": "a", "d": day, "n": 1}, {"k": "A", "d": "2024-1-2", "n": 2}, {"k": "b", "d": "infinity", "n": 3}]
    assert await reported(place, "t", records) == [(1, 1007, None, "t_pkey")]
    again = [{"k": "A", "d": "Jan 2 2024", "n": 5}, {"k": "B", "d": "infinity", "n": 6}, {"k": "a", "d": day, "n": 7}]
    assert await reported(place, "t", again, options=UPDATE) == [(2, 1007, None, "t_pkey")]
    rows = await place.rows("select k::text, n from t order by n")
    assert [(row["k"], row["n"]) for row in rows] == [("A", 5), ("B", 6)]


async def test_a_batch_with_many_refused_records_is_judged_at_once(shop: Bench) -> None:
    """Narrowing down would take thousands of transactions."""
    records = [price(f"S-{n}", amount=-n if n % 2 else n % 400) for n in range(2000)]
    before = await shop.rows(
        "select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()"
    )
    job = await shop.with_settings(import_batch_size=2000).run("prices", records)
    assert (job.success_count, job.error_count) == (1000, 1000)
    after = await shop.rows(
        "select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()"
    )
    assert after[0]["n"] - before[0]["n"] < 100


PLAIN = """
do $$ begin create role wherry_plain login; exception when duplicate_object then null; end $$;
grant usage on schema wherry, public to wherry_plain;
grant all on all tables in schema wherry to wherry_plain;
grant all on all sequences in schema wherry to wherry_plain;
"""


@pytest.fixture
async def plain(bench: Bench) -> AsyncIterator[Bench]:
    """The same database, used by a role that has few rights."""
    async with bench.pool.connection() as connection:
        await connection.execute(PLAIN.encode())
    conninfo = make_conninfo(bench.pool.conninfo, user="wherry_plain")
    async with make_pool(conninfo, name="plain", max_size=5) as pool:
        yield replace(bench, pool=pool)


async def test_a_row_that_row_level_security_refuses_is_an_error_of_its_record(bench: Bench, plain: Bench) -> None:
    await bench.do("create table t (id int primary key, owner text)")
    await bench.do("alter table t enable row level security")
    await bench.do("create policy own on t using (owner = 'me') with check (owner = 'me')")
    await bench.do("grant all on t to wherry_plain")
    place = replace(plain, declarations=Declarations(tables={"t": Declaration(table="public.t")}))
    records = [{"id": n, "owner": "me" if n != 3 else "you"} for n in range(6)]
    assert await reported(place, "t", records) == [(3, 4003, None, None)]
    assert len(await bench.rows("select * from t")) == 5


async def test_without_the_right_to_update_rows_can_only_be_created(bench: Bench, plain: Bench) -> None:
    await bench.do("create table t (id int primary key, n int)")
    await bench.do("grant select, insert on t to wherry_plain")
    place = replace(plain, declarations=Declarations(tables={"t": Declaration(table="public.t")}))
    assert await reported(place, "t", [{"id": 1}, {"id": 2}]) == []
    assert await reported(place, "t", [{"id": 2}, {"id": 3}]) == [(0, 1007, "id", "t_pkey")]
    table = (await place.tables.current())["t"]
    assert not table.is_updatable


async def test_a_reference_to_a_table_that_the_role_may_not_read_is_left_to_the_database(
    bench: Bench, plain: Bench
) -> None:
    await bench.do("create table par (id int primary key)")
    await bench.do("insert into par values (1)")
    await bench.do("create table t (id int primary key, p int references par)")
    await bench.do("grant all on t to wherry_plain")
    place = replace(plain, declarations=Declarations(tables={"t": Declaration(table="public.t")}))
    records = [{"id": 1, "p": 1}, {"id": 2, "p": 9}, {"id": "x", "p": 9}]
    assert await reported(place, "t", records) == [(1, 1008, "p", "t_p_fkey"), (2, 1002, "id", None)]


async def test_what_cannot_be_written_is_not_importable(bench: Bench) -> None:
    place = await declare(
        bench,
        """
        create table base (id int primary key, t text);
        create view counted as select t, count(*)::int as n from base group by t;
        create materialized view kept as select * from base;
        """,
        counted=Declaration(table="public.counted", key=("t",)),
        kept=Declaration(table="public.kept", key=("id",)),
    )
    tables = await place.tables.current()
    assert {name: tables[name].import_roles for name in ("counted", "kept")} == {"counted": (), "kept": ()}


async def test_rules_of_the_table_apply(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id int primary key); create rule quiet as on insert to t where new.id = 2 do instead nothing",
        t="public.t",
    )
    job = await place.run("t", [{"id": 1}, {"id": 2}, {"id": 3}])
    assert job.error_count == 0
    assert [row["id"] for row in await place.rows("select id from t order by id")] == [1, 3]


async def test_triggers_run_on_the_users_own_search_path_and_may_mend_a_record(bench: Bench) -> None:
    place = await declare(
        bench,
        """
        create table log (id int);
        create table t (id int primary key, n int not null check (n > 0));
        create function mend() returns trigger language plpgsql as
          'begin new.n := coalesce(abs(new.n), 1); insert into log values (new.id); return new; end';
        create trigger mend before insert or update on t for each row execute function mend();
        """,
        t="public.t",
    )
    job = await place.run("t", [{"id": 1}, {"id": 2, "n": -5}, {"id": 3, "n": None}, {"id": 4, "n": 0}])
    assert await place.faults(job) == [(3, "INVALID_FIELD_FORMAT", "n")]
    assert [(row["id"], row["n"]) for row in await place.rows("select * from t order by id")] == [
        (1, 1),
        (2, 5),
        (3, 1),
    ]
    assert [row["id"] for row in await place.rows("select * from log order by id")] == [1, 2, 3]


async def test_a_view_is_written_through_its_trigger(bench: Bench) -> None:
    place = await declare(
        bench,
        """
        create table base (id int primary key, t text);
        create view v as select id, t from base;
        """,
        v=Declaration(table="public.v", key=("id",)),
    )
    assert await reported(place, "v", [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}]) == []
    assert [error[:2] for error in await reported(place, "v", [{"id": 2, "t": "c"}, {"id": 3}])] == [(0, 1007)]
    assert await reported(place, "v", [{"id": 2, "t": "c"}], options=UPDATE) == []
    assert [(row["id"], row["t"]) for row in await place.rows("select * from base order by id")] == [
        (1, "a"),
        (2, "c"),
        (3, None),
    ]


async def test_a_table_without_a_key_takes_every_record(bench: Bench) -> None:
    place = await declare(bench, "create table t (n int, s text)", t="public.t")
    job = await place.run("t", [{"n": 1}, {"n": 1}, {}, {"s": "x"}], options=UPDATE)
    assert (job.success_count, job.error_count) == (4, 0)


async def test_names_may_have_anything(bench: Bench) -> None:
    place = await declare(
        bench,
        """create schema "Odd %s"; create table "Odd %s"."a.b""c%" (
             "i" int, "given" int, "target" text, "100%" int check ("100%" >= 0), "a""b" text,
             "select" text default 'x',
             "n" int, "nn" text, primary key ("i", "target"))""",
        odd='"Odd %s"."a.b""c%"',
    )
    record = {"i": 1, "given": 2, "target": "t", "100%": 3, 'a"b': "q", "nn": "z"}
    assert await reported(place, "odd", [record, {**record, "i": 2, "100%": -1}]) == [
        (1, 1003, "100%", 'a.b"c%_100%_check')
    ]
    assert await reported(place, "odd", [{**record, "given": 5}], options=UPDATE) == []
    (row,) = await place.rows('select * from "Odd %%s"."a.b""c%%"')
    assert row == {"i": 1, "given": 5, "target": "t", "100%": 3, 'a"b': "q", "select": "x", "n": None, "nn": "z"}


async def test_columns_that_are_excluded_or_only_read_are_not_written(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id int primary key, secret int check (secret > 0) default 1, seen int default 2)",
        t=Declaration(table="public.t", exclude=("secret",), read_only=("seen",)),
    )
    job = await place.run("t", [{"id": 1, "secret": 5, "seen": 5}])
    assert job.success_count == 1
    (row,) = await place.rows("select * from t")
    assert row == {"id": 1, "secret": 1, "seen": 2}


async def test_a_hidden_columns_name_is_not_part_of_a_message(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id int primary key, secret int not null default -1 check (secret > 0))",
        t=Declaration(table="public.t", exclude=("secret",)),
    )
    job = await place.run("t", [{"id": 1}])
    assert "secret" not in json.dumps(await place.errors(job))
    assert job.error_count == 1


async def test_a_partition_that_is_missing_is_the_records_fault(bench: Bench) -> None:
    place = await declare(
        bench,
        "create table t (id int, day date, primary key (id, day)) partition by range (day);"
        "create table t1 partition of t for values from ('2024-01-01') to ('2025-01-01')",
        t="public.t",
    )
    job = await place.run("t", [{"id": 1, "day": "2024-05-05"}, {"id": 2, "day": "2023-05-05"}])
    assert (job.success_count, job.error_count) == (1, 1)


async def test_a_table_that_changed_under_an_import_fails_it(shop: Bench) -> None:
    job = await shop.submit("prices", b"".join(json.dumps(price(f"S-{n}")).encode() + b"\n" for n in range(10)))
    tables = shop.tables
    stale = await tables.find("prices")
    await shop.do("alter table shop.price drop column valid, drop column meta")
    assert stale is not None

    class Stale:
        async def find(self, name: str) -> Any:
            return stale

    runner = shop.runner()
    runner._tables = Stale()  # type: ignore[assignment]
    done = await shop.execute(job, runner)
    assert done.status in ("succeeded", "failed")


async def test_the_database_alone_decides_what_no_statement_foresees(bench: Bench) -> None:
    place = await declare(
        bench,
        """
        create extension if not exists btree_gist;
        create table t (
          id int primary key, room int, during int4range, email text,
          constraint no_overlap exclude using gist (room with =, during with &&)
        );
        create unique index t_email on t (lower(email));
        """,
        t="public.t",
    )
    records = [
        {"id": 1, "room": 1, "during": "[1,5)", "email": "a@x"},
        {"id": 2, "room": 1, "during": "[4,6)", "email": "b@x"},
        {"id": 3, "room": 2, "during": "[4,6)", "email": "A@X"},
        {"id": 4, "room": 2, "during": "[7,8)", "email": "d@x"},
    ]
    assert await reported(place, "t", records) == [(1, 1007, None, "no_overlap"), (2, 1007, None, "t_email")]


TREE = """
create table node (id int primary key, parent int references node, name text unique, n int check (n > 0));
insert into node values (100, null, 'old', 1);
"""


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "options", [ImportOptions(), ImportOptions(atomic=True), UPDATE], ids=["error", "atomic", "update"]
)
async def test_a_record_may_refer_to_a_later_one_of_its_table(bench: Bench, options: ImportOptions, batch: int) -> None:
    place = (await declare(bench, TREE, t="public.node")).with_settings(import_batch_size=batch)
    records = [{"id": n, "parent": n + 1 if n < 9 else 100, **({"n": 1} if n % 2 else {})} for n in range(10)]
    job = await place.run("t", records, options=options)
    assert await place.faults(job) == []
    assert (job.success_count, job.total_records) == (10, 10)
    assert await place.rows("select * from wherry.import_postponed") == []


@pytest.mark.parametrize("batch", [1, 2, 100])
async def test_a_reference_to_no_record_at_all_is_reported_at_the_end(bench: Bench, batch: int) -> None:
    place = (await declare(bench, TREE, t="public.node")).with_settings(import_batch_size=batch)
    records: list[Any] = [
        {"id": 1, "parent": 2},
        {"id": 2, "parent": 3},
        {"id": 3, "parent": 99, "n": 0},
        {"id": 4, "parent": 5},
        {"id": 5, "parent": 5},
        {"id": 6, "parent": 7},
        {"id": 7, "parent": None, "name": "old"},
    ]
    expected = [
        (0, 1008, "parent", "node_parent_fkey"),
        (1, 1008, "parent", "node_parent_fkey"),
        (2, 1003, "n", "node_n_check"),
        (2, 1008, "parent", "node_parent_fkey"),
        (5, 1008, "parent", "node_parent_fkey"),
        (6, 1007, "name", "node_name_key"),
    ]
    assert sorted(await reported(place, "t", records, options=ImportOptions(dry_run=True)), key=str) == expected
    assert sorted(await reported(place, "t", records), key=str) == expected
    assert [row["id"] for row in await place.rows("select id from node order by id")] == [4, 5, 100]
