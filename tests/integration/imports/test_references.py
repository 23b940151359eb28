"""Records that name rows of other tables by their keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, article, comment
from tests.integration.imports.test_declared_tables import SHOP, TENANT, declare, price, reported
from wherry.imports.models import ImportOptions, OnConflict, UnknownFields
from wherry.jobs.states import Status
from wherry.tables.declarations import Declaration

UPDATE, SKIP = ImportOptions(OnConflict.UPDATE), ImportOptions(OnConflict.SKIP)
PRICES = Declaration(table="shop.price", references={"supplier_id": "email"})
TREE = """
create table node (id int {identity} primary key, code text not null unique, parent_id int references node, n int);
"""


@pytest.fixture
async def shop(bench: Bench) -> Bench:
    suppliers = Declaration(table="shop.supplier", references={"parent_id": "email"})
    return await declare(bench, SHOP, prices=PRICES, suppliers=suppliers)


async def tree(bench: Bench, identity: str = "") -> Bench:
    node = Declaration(table="public.node", references={"parent_id": "code"})
    return await declare(bench, TREE.format(identity=identity), nodes=node)


def named(sku: str, email: str | None, **fields: Any) -> dict[str, Any]:
    return price(sku, supplier=None if email is None else {"email": email}, **fields)


async def suppliers_of(bench: Bench) -> dict[str, str | None]:
    """The e-mail address of the supplier of each price."""
    rows = await bench.rows("select p.sku, s.email from shop.price p left join shop.supplier s on s.id = p.supplier_id")
    return {row["sku"]: row["email"] for row in rows}


async def parents(bench: Bench) -> dict[str, str | None]:
    rows = await bench.rows("select n.code, p.code as parent from node n left join node p on p.id = n.parent_id")
    return {row["code"]: row["parent"] for row in rows}


@pytest.mark.parametrize("options", [ImportOptions(), UPDATE, SKIP, ImportOptions(atomic=True)])
async def test_a_record_may_name_a_row_by_its_key(shop: Bench, options: ImportOptions) -> None:
    records = [named("A", "a@x"), named("B", "b@x"), named("C", None), price("D", supplier_id=2), price("E")]
    job = await shop.run("prices", records, options=options)
    assert await shop.faults(job) == []
    assert await suppliers_of(shop) == {"A": "a@x", "B": "b@x", "C": None, "D": "b@x", "E": None}


async def test_a_dry_run_finds_the_same_rows(shop: Bench) -> None:
    job = await shop.run("prices", [named("A", "a@x"), named("B", "z@x")], options=ImportOptions(dry_run=True))
    assert await shop.faults(job) == [(1, "INVALID_REFERENCE", "supplier")]
    assert await suppliers_of(shop) == {}


async def test_an_update_changes_what_a_row_refers_to_if_the_record_says_so(shop: Bench) -> None:
    await shop.run("prices", [named(sku, "a@x") for sku in "ABC"])
    await shop.run("prices", [named("A", "b@x"), named("B", None), price("C")], options=UPDATE)
    assert await suppliers_of(shop) == {"A": "b@x", "B": None, "C": "a@x"}


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("a@x", 1002, 'supplier must be {"email": …}'),
        (1, 1002, 'supplier must be {"email": …}'),
        ([], 1002, 'supplier must be {"email": …}'),
        ({}, 1002, 'supplier must be {"email": …}'),
        ({"id": 1}, 1002, 'supplier must be {"email": …}'),
        ({"email": "a@x", "id": 1}, 1002, 'supplier must be {"email": …}'),
        ({"email": None}, 1002, 'supplier must be {"email": …}'),
        ({"email": 5}, 1002, 'supplier must be {"email": …}, but email must be a string'),
        ({"email": "\0"}, 1003, 'supplier must be {"email": …}, but email must not contain the character NUL'),
        ({"email": "A@x"}, 1008, "supplier with the email A@x does not exist in shop.supplier"),
    ],
)
async def test_a_wrong_reference_is_reported_with_the_right_form(
    shop: Bench, given: Any, code: int, message: str
) -> None:
    job = await shop.run("prices", [price("A", supplier=given)])
    (error,) = await shop.errors(job)
    assert (error["errorCode"], error["field"], error["message"]) == (code, "supplier", message)
    assert (error["recordId"], error["value"] == given or error["value"] == "[object]") == (
        f"{price('')['tenant']}, A",
        True,
    )


async def test_a_record_must_not_give_both(shop: Bench) -> None:
    records = [
        named("A", "a@x", supplier_id=1),
        named("B", "a@x", supplier_id=None),
        named("C", None, supplier_id=1),
        f'{json.dumps(price("D", supplier_id=1))[:-1]}, "suppl\\u0069er": null}}'.encode(),
    ]
    assert await reported(shop, "prices", records) == [(n, 1003, "supplier", None) for n in range(4)]
    assert await suppliers_of(shop) == {}


async def test_an_unknown_row_is_reported_with_all_other_faults_of_the_record(shop: Bench) -> None:
    await shop.run("prices", [price("OLD")])
    records: list[Any] = [
        named("A", "a@x"),
        named("a b", "z@x", amount=-1, state="live"),
        named("OLD", "z@x", label="too long"),
        named("A", "y@x"),
        named("B", "b@x"),
    ]
    assert sorted(await reported(shop, "prices", records), key=str) == sorted(
        [
            (1, 1008, "supplier", None),
            (1, 1003, "sku", "sku_check"),
            (1, 1003, "amount", "amount_not_negative"),
            (2, 1004, "label", None),
            (2, 1008, "supplier", None),
            (2, 1007, None, "price_pkey"),
            (3, 1008, "supplier", None),
            (3, 1007, None, "price_pkey"),
        ],
        key=str,
    )
    assert await suppliers_of(shop) == {"OLD": None, "A": "a@x", "B": "b@x"}


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_record_that_is_skipped_may_name_an_unknown_row(shop: Bench, size: int) -> None:
    place = shop.with_settings(import_batch_size=size)
    await place.run("prices", [price("OLD")])
    records: list[Any] = [
        named("OLD", "z@x"),
        named("OLD", "z@x", amount=-1),  # breaks a CHECK constraint
        named("OLD", "z@x", amount="?"),
        price("A"),
        price("B"),
        named("A", "z@x"),
        named("C", "z@x"),
    ]
    job = await place.run("prices", records, options=SKIP)
    assert await place.faults(job) == [(2, "INVALID_FIELD_TYPE", "amount"), (6, "INVALID_REFERENCE", "supplier")]
    assert (job.success_count, job.error_count) == (5, 2)
    by_id = [price("OLD", supplier_id=99), price("OLD", supplier_id=99, amount=-1)]
    assert (await place.run("prices", by_id, options=SKIP)).status is Status.SUCCEEDED


async def test_a_record_whose_key_needs_the_reference_is_not_skipped(bench: Bench) -> None:
    sql = """
    create table maker (id int primary key, code text not null unique);
    create table thing (maker_id int references maker, n int, primary key (maker_id, n));
    insert into maker values (1, 'a'); insert into thing values (1, 1);
    """
    place = await declare(bench, sql, things=Declaration(table="public.thing", references={"maker_id": "code"}))
    records = [{"maker": {"code": "a"}, "n": 1}, {"maker": {"code": "b"}, "n": 1}]
    job = await place.run("things", records, options=SKIP)
    assert await place.faults(job) == [(1, "INVALID_REFERENCE", "maker")]


async def test_a_required_column_is_given_by_its_reference(bench: Bench) -> None:
    sql = """
    create table maker (id uuid primary key default gen_random_uuid(), code int not null unique);
    create table thing (id int primary key, maker_id uuid not null references maker);
    insert into maker (code) values (1), (2);
    """
    place = await declare(bench, sql, things=Declaration(table="public.thing", references={"maker_id": "code"}))
    records = [{"id": n, "maker": {"code": n}} for n in (1, 2, 3)] + [{"id": 4}, {"id": 5, "maker": None}]
    assert await reported(place, "things", records) == [
        (2, 1008, "maker", None),
        (3, 1001, "maker_id", None),
        (4, 1001, "maker", None),
    ]
    assert await place.rows("select t.id, code from thing t join maker m on m.id = maker_id order by t.id") == [
        {"id": n, "code": n} for n in (1, 2)
    ]


async def test_a_column_without_the_suffix_keeps_its_name(bench: Bench) -> None:
    sql = """
    create table maker (code text primary key, alias text not null unique, number numeric(3,1) not null unique);
    create table thing (id int primary key, maker text references maker, maker_id text references maker, n_id numeric);
    alter table thing add foreign key (n_id) references maker (number);
    insert into maker values ('m', 'an alias', 1.5), ('{"alias": 1}', '{}', 2.5);
    """
    references = {"maker": "alias", "maker_id": "number", "n_id": "code"}
    place = await declare(bench, sql, things=Declaration(table="public.thing", references=references))
    records = [
        {"id": 1, "maker": {"alias": "an alias"}, "maker_id": {"number": 1.5}, "n": {"code": "m"}},
        {"id": 2, "maker": "m", "maker_id": "m", "n_id": 1.5},
        {"id": 3, "maker": None, "maker_id": None, "n": None},
        {"id": 4, "maker": {"alias": "?"}, "maker_id": {"number": 1.54}, "n": {"code": "?"}},
        {"id": 5, "maker": {"x": 1}, "maker_id": {"number": "1.5"}, "n": {"code": 1}},
    ]
    assert await reported(place, "things", records) == [
        (3, 1008, "maker", None),
        (3, 1008, "maker_id", None),
        (3, 1008, "n", None),
        (4, 1002, "maker", None),
        (4, 1002, "n", None),
    ]
    header = b"id,maker,maker_id,n\n"
    cells = b'6,"{""alias"":""an alias""}","{""number"":1.5}","{""code"":""m""}"\n7,m,m,\n'
    job = await place.run("things", header + cells, format="csv")
    assert await place.faults(job) == []
    assert await place.rows("select id, maker, maker_id, n_id::text from thing order by id") == [
        {"id": 1, "maker": "m", "maker_id": "m", "n_id": "1.5"},
        {"id": 2, "maker": "m", "maker_id": "m", "n_id": "1.5"},
        {"id": 3, "maker": None, "maker_id": None, "n_id": None},
        {"id": 6, "maker": "m", "maker_id": "m", "n_id": "1.5"},
        {"id": 7, "maker": "m", "maker_id": "m", "n_id": None},
    ]


@pytest.mark.parametrize("format", ["ndjson", "json", "csv"])
async def test_every_format_has_references(shop: Bench, format: str) -> None:
    records = [named("A", "a@x"), named("B", None), named("C", "z@x")]
    if format == "csv":
        cells = [
            f'{r["tenant"]},{r["sku"]},1,"{json.dumps(r["supplier"]).replace(chr(34), chr(34) * 2)}"' for r in records
        ]
        data = "\n".join(["tenant,sku,amount,supplier", *cells, ""]).encode()
    else:
        data = (
            json.dumps(records).encode()
            if format == "json"
            else b"".join(json.dumps(r).encode() + b"\n" for r in records)
        )
    job = await shop.run("prices", data, format=format)
    assert await shop.faults(job) == [(2, "INVALID_REFERENCE", "supplier")]
    assert await suppliers_of(shop) == {"A": "a@x", "B": None}


async def test_a_cell_that_is_not_json_is_reported(shop: Bench) -> None:
    data = f"tenant,sku,amount,supplier\n{price('')['tenant']},A,1,a@x\n".encode()
    job = await shop.run("prices", data, format="csv")
    assert await shop.faults(job) == [(0, "INVALID_FIELD_TYPE", "supplier")]


async def test_references_are_known_fields_and_may_be_mapped(shop: Bench) -> None:
    options = ImportOptions(unknown_fields=UnknownFields.ERROR, columns={"Von": "supplier"})
    data = f'tenant,sku,amount,Von\n{price("")["tenant"]},A,1,"{{""email"":""a@x""}}"\n'.encode()
    job = await shop.run("prices", data, format="csv", options=options)
    assert await shop.faults(job) == []
    assert await suppliers_of(shop) == {"A": "a@x"}


async def test_articles_and_comments_name_users_and_articles(authored: Bench) -> None:
    records: list[Any] = [article(1), article(2), article(3), article(4), article(5)]
    for record in records[:4]:
        del record["author_id"]
    records[0]["author"] = {"email": "author1@example.com"}
    records[1]["author"] = {"email": " AUTHOR2@Example.com "}
    records[2]["author"] = {"email": "nobody@example.com"}
    records[4]["author"] = {"email": "author2@example.com"}
    job = await authored.run("articles", records)
    assert await authored.faults(job) == [
        (2, "INVALID_REFERENCE", "author"),
        (3, "MISSING_REQUIRED_FIELD", "author_id"),
        (4, "INVALID_FIELD_FORMAT", "author"),
    ]
    errors = await authored.errors(job)
    assert errors[0]["message"] == "Author with the email nobody@example.com does not exist in users"
    assert errors[2]["message"] == "Author must not be given together with author_id"
    comments: list[Any] = [comment(1), comment(2), comment(3)]
    for each in comments[:2]:
        del each["article_id"], each["user_id"]
    comments[0] |= {"article": {"slug": "ARTICLE-1"}, "user": {"email": "author2@example.com"}}
    comments[1] |= {"article": {"slug": "a b"}, "user": "author2@example.com"}
    comments[2] |= {"article": None, "user": None, "article_id": 2}
    job = await authored.run("comments", comments)
    assert [(n, name, field) for n, name, field in await authored.faults(job)] == [
        (1, "INVALID_FIELD_FORMAT", "article"),
        (1, "INVALID_FIELD_TYPE", "user"),
    ]
    assert await authored.rows(
        "select c.id, a.slug, u.email from wherry.comments c "
        "join wherry.articles a on a.id = article_id join wherry.users u on u.id = user_id order by c.id"
    ) == [
        {"id": 1, "slug": "article-1", "email": "author2@example.com"},
        {"id": 3, "slug": "article-2", "email": "author1@example.com"},
    ]


@pytest.mark.parametrize("identity", ["", "generated always as identity"], ids=["given", "identity"])
@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_tree_is_written_whatever_its_order_is(bench: Bench, identity: str, size: int) -> None:
    place = (await tree(bench, identity)).with_settings(import_batch_size=size)
    expected = {"root": None, "a": "root", "b": "root", "aa": "a", "ab": "a", "aaa": "aa"}
    for order in (list(expected), list(reversed(expected)), ["aa", "root", "b", "aaa", "a", "ab"]):
        records: list[Any] = [
            {"code": code, "parent": None if (parent := expected[code]) is None else {"code": parent}} for code in order
        ]
        if not identity:
            records = [{"id": number, **record} for number, record in enumerate(records)]
        job = await place.run("nodes", records)
        assert await place.faults(job) == []
        assert await parents(place) == expected
        await place.do("truncate node")


@pytest.mark.parametrize("identity", ["", "generated always as identity"], ids=["given", "identity"])
async def test_a_node_whose_parent_fails_or_never_comes_is_reported(bench: Bench, identity: str) -> None:
    place = await tree(bench, identity)
    records: list[Any] = [
        {"code": "a", "parent": {"code": "b"}},
        {"code": "b", "parent": {"code": "c"}},
        {"code": "c", "n": "x"},
        {"code": "d", "parent": {"code": "nowhere"}},
        {"code": "e"},
        {"code": "f", "parent": {"code": "e"}},
        {"code": "e", "parent": {"code": "f"}},
    ]
    if not identity:
        records = [{"id": number, **record} for number, record in enumerate(records)]
    job = await place.run("nodes", records)
    faults = [(n, name) for n, name, _ in await place.faults(job)]
    assert sorted(faults) == [
        (0, "INVALID_REFERENCE"),
        (1, "INVALID_REFERENCE"),
        (2, "INVALID_FIELD_TYPE"),
        (3, "INVALID_REFERENCE"),
        (6, "DUPLICATE_VALUE"),
    ]
    assert await parents(place) == {"e": None, "f": "e"}


async def test_rows_that_an_earlier_import_wrote_are_found(bench: Bench) -> None:
    place = await tree(bench, "generated always as identity")
    await place.run("nodes", [{"code": "root"}])
    job = await place.run("nodes", [{"code": f"n{n}", "parent": {"code": "root"}} for n in range(500)])
    assert job.status is Status.SUCCEEDED
    assert set((await parents(place)).values()) == {None, "root"}


async def test_a_key_that_only_postgresql_can_read_is_looked_up(bench: Bench) -> None:
    sql = """
    create table host (id timestamptz primary key, address inet not null unique);
    create table visit (id int primary key, host_id timestamptz references host);
    insert into host values ('infinity', '10.0.0.1'), ('2024-01-01T00:00:00.123456Z', '10.0.0.2');
    """
    place = await declare(bench, sql, visits=Declaration(table="public.visit", references={"host_id": "address"}))
    addresses = ["10.0.0.1", "10.0.0.2/32", "10.0.0.3", "no address"]
    job = await place.run("visits", [{"id": n, "host": {"address": each}} for n, each in enumerate(addresses)])
    assert [fault[:2] for fault in await place.faults(job)] == [(2, "INVALID_REFERENCE"), (3, "INVALID_FIELD_FORMAT")]
    assert await place.rows("select v.id, address::text from visit v join host h on h.id = host_id order by v.id") == [
        {"id": 0, "address": "10.0.0.1/32"},
        {"id": 1, "address": "10.0.0.2/32"},
    ]


async def test_a_row_that_nothing_can_refer_to_does_not_exist(bench: Bench) -> None:
    sql = """
    create table a (n numeric unique, k text not null unique);
    create table b (id int primary key, a_id numeric references a (n));
    insert into a values (null, 'none'), (1.5, 'some');
    """
    place = await declare(bench, sql, bs=Declaration(table="public.b", references={"a_id": "k"}))
    records = [{"id": 1, "a": {"k": "none"}}, {"id": 2, "a": {"k": "some"}}]
    assert await reported(place, "bs", records) == [(0, 1008, "a", None)]
    assert await place.rows("select id, a_id::text from b") == [{"id": 2, "a_id": "1.5"}]


async def test_keys_are_compared_as_their_column_does(bench: Bench) -> None:
    sql = """
    create extension if not exists citext;
    create table a (id int primary key, parent_id int references a, k citext not null unique);
    """
    place = await declare(bench, sql, things=Declaration(table="public.a", references={"parent_id": "k"}))
    records = [
        {"id": 1, "k": "Root"},
        {"id": 2, "k": "x", "parent": {"k": "ROOT"}},
        {"id": 3, "k": "y", "parent": {"k": "root"}},
        {"id": 4, "k": "z", "parent": {"k": "roof"}},
    ]
    assert await reported(place, "things", records) == [(3, 1008, "parent", None)]
    rows = await place.rows("select id, parent_id from a order by id")
    assert [row["parent_id"] for row in rows] == [None, 1, 1]


async def test_names_of_any_kind_work(bench: Bench) -> None:
    sql = """
    create table "T %s" (id int primary key, "k ""%\\" text not null unique);
    create table u (id int primary key, "a ""b" text, "ü/%_id" int references "T %s");
    insert into "T %s" values (7, 'x');
    """
    place = await declare(bench, sql, us=Declaration(table="public.u", references={"ü/%_id": 'k "%\\'}))
    records = [{"id": 1, "ü/%": {'k "%\\': "x"}}, {"id": 2, "ü/%": {'k "%\\': "y"}}, {"id": 3, "ü/%_id": 7}]
    assert await reported(place, "us", records) == [(1, 1008, "ü/%", None)]
    assert await place.rows('select id, "ü/%%_id" as t from u order by id') == [{"id": 1, "t": 7}, {"id": 3, "t": 7}]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("on_conflict", [OnConflict.ERROR, OnConflict.SKIP])
async def test_a_record_that_is_not_written_names_nothing(bench: Bench, size: int, on_conflict: OnConflict) -> None:
    place = (await tree(bench, "")).with_settings(import_batch_size=size)
    await place.run("nodes", [{"id": 5, "code": "old"}])
    records = [{"id": 5, "code": "x"}, {"id": 6, "code": "y", "parent": {"code": "x"}}]
    job = await place.run("nodes", records, options=ImportOptions(on_conflict))
    refused = [(0, "DUPLICATE_VALUE", "id")] if on_conflict is OnConflict.ERROR else []
    assert await place.faults(job) == [*refused, (1, "INVALID_REFERENCE", "parent")]
    assert await parents(place) == {"old": None}


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_record_names_a_row_by_the_key_that_earlier_records_gave_it(bench: Bench, size: int) -> None:
    place = (await tree(bench, "")).with_settings(import_batch_size=size)
    await place.run("nodes", [{"id": 5, "code": "x"}, {"id": 6, "code": "y"}])
    records = [{"id": 5, "code": "z"}, {"id": 6, "code": "x"}, {"id": 7, "code": "c", "parent": {"code": "x"}}]
    job = await place.run("nodes", records, options=ImportOptions(OnConflict.UPDATE))
    assert await place.faults(job) == []
    assert await place.rows("select parent_id from node where id = 7") == [{"parent_id": 6}]


async def test_a_node_may_be_its_own_parent(bench: Bench) -> None:
    place = await tree(bench, "")
    job = await place.run("nodes", [{"id": 1, "code": "a", "parent": {"code": "a"}}])
    assert await place.faults(job) == []
    assert await parents(place) == {"a": "a"}


@pytest.mark.parametrize("options", [ImportOptions(), UPDATE, SKIP])
async def test_a_broken_reference_is_reported_under_the_field_that_the_record_gave(
    bench: Bench, options: ImportOptions
) -> None:
    place = await tree(bench, "")
    await place.do("alter table node add unique (parent_id), add constraint n check (parent_id <> n)")
    await place.run("nodes", [{"id": 1, "code": "a"}, {"id": 2, "code": "b", "parent": {"code": "a"}}])
    records: list[Any] = [
        {"id": 3, "code": "c", "parent": {"code": "c"}, "n": "?"},  # there will be no such parent
        {"id": 4, "code": "d", "parent_id": 4, "n": "?"},
        {"id": 5, "code": "e", "parent": {"code": "a"}},
        {"id": 6, "code": "f", "parent": {"code": "b"}, "n": 2},
    ]
    job = await place.run("nodes", records, options=options)
    errors = [(e["recordIndex"], e["field"], e["message"]) for e in await place.errors(job)]
    assert set(errors) == {
        (0, "n", "n must be an integer"),
        (0, "parent", "parent with the code c does not exist in public.node"),
        (1, "n", "n must be an integer"),
        (1, "parent_id", "parent_id 4 does not exist in public.node"),
        (2, "parent", "parent is already in use"),
        (3, None, "parent, n: breaks n: (parent_id <> n)"),
    }


async def test_a_record_with_the_key_of_another_row_does_not_name_itself(bench: Bench) -> None:
    place = await tree(bench, "")
    await place.run("nodes", [{"id": 1, "code": "a"}])
    job = await place.run("nodes", [{"id": 2, "code": "a", "parent": {"code": "a"}}])
    assert await place.faults(job) == [(0, "DUPLICATE_VALUE", "code")]


async def test_every_key_that_cannot_be_read_is_reported_under_its_field_with_the_other_faults(bench: Bench) -> None:
    sql = """
    create table day (id int primary key, day date not null unique);
    create table visit (id int primary key, day_id int references day, n int check (n > 0));
    insert into day values (1, '2024-01-01');
    """
    place = await declare(bench, sql, visits=Declaration(table="public.visit", references={"day_id": "day"}))
    days = ["2024-01-01", "13/45/2020", "2024-01-02", "no day", "13/45/2020"]
    job = await place.run("visits", [{"id": n, "day": {"day": day}, "n": n % 2 or -1} for n, day in enumerate(days)])
    found = {(n, name, field) for n, name, field in await place.faults(job)}
    assert found == {
        *((n, "INVALID_FIELD_FORMAT", "n") for n in (0, 2, 4)),
        *((n, "INVALID_FIELD_FORMAT", "day") for n in (1, 3, 4)),
        (2, "INVALID_REFERENCE", "day"),
    }


async def test_in_csv_an_empty_cell_is_no_reference_beside_another(shop: Bench) -> None:
    text = b'tenant,sku,amount,supplier,supplier_id\n%b,A,1,"{""email"": ""b@x""}",\n%b,B,1,,1\n%b,C,1,,\n' % (
        (TENANT.encode(),) * 3
    )
    job = await shop.run("prices", text, format="csv")
    assert await shop.faults(job) == []
    assert await shop.rows("select sku, supplier_id from shop.price order by sku") == [
        {"sku": "A", "supplier_id": 2},
        {"sku": "B", "supplier_id": 1},
        {"sku": "C", "supplier_id": None},
    ]
