"""Pages have the same records as an export job, and a cursor to the next page."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from tests.integration.exports.conftest import Exports
from wherry.exports.page import WINDOW_BYTES, RecordPage, open_page
from wherry.exports.requests import parse_page


async def page_of(exports: Exports, **query: str) -> RecordPage:
    given = {name: [value] for name, value in query.items()}
    tables = await exports.tables().current()
    return await open_page(exports.pool, parse_page(given, tables, query.get("filters"), max_limit=1000))


async def content(page: RecordPage) -> bytes:
    return b"".join([chunk async for chunk in page])


async def test_all_pages_together_are_the_whole_export(exports: Exports) -> None:
    await exports.fill(25)
    await exports.sql("delete from wherry.comments where id in (3, 4, 11)")
    whole = (await exports.exported(resource="comments")).splitlines()
    lines: list[bytes] = []
    cursor: int | None = 0
    while cursor is not None:
        page = await page_of(exports, resource="comments", limit="5", cursor=str(cursor))
        *records, last = (await content(page)).splitlines()
        lines += records
        assert json.loads(last) == {"_type": "cursor", "nextCursor": page.next_cursor}
        cursor = page.next_cursor
    assert lines == whole


@pytest.mark.parametrize(("limit", "expected"), [("9", 9), ("10", 10), ("11", None)])
async def test_the_next_cursor_is_null_on_the_last_page(exports: Exports, limit: str, expected: int | None) -> None:
    await exports.fill(10)
    for form in ("ndjson", "json"):
        page = await page_of(exports, resource="users", limit=limit, format=form)
        body = await content(page)
        shown = json.loads(body if form == "json" else body.splitlines()[-1])["nextCursor"]
        assert (page.next_cursor, shown) == (expected, expected)


async def test_json_is_one_object_with_the_records_and_the_cursor(exports: Exports) -> None:
    await exports.fill(2)
    page = await page_of(exports, resource="users", format="json", fields="id,email", limit="2")
    assert page.content_type == "application/json"
    records = [{"id": 1, "email": "u1@x.org"}, {"id": 2, "email": "u2@x.org"}]
    assert json.loads(await content(page)) == {"data": records, "nextCursor": 2}


async def test_the_bytes_of_a_page_are_what_clients_expect(exports: Exports) -> None:
    await exports.fill(1)
    page = await page_of(exports, resource="users", fields="id", limit="1")
    assert page.content_type == "application/x-ndjson"
    assert await content(page) == b'{"id":1}\n{"_type":"cursor","nextCursor":1}\n'


async def test_an_empty_page_is_valid(exports: Exports) -> None:
    assert await content(await page_of(exports, resource="users")) == b'{"_type":"cursor","nextCursor":null}\n'
    page = await page_of(exports, resource="users", format="json", cursor="2147483647")
    assert json.loads(await content(page)) == {"data": [], "nextCursor": None}


async def test_a_page_without_the_id_still_has_a_cursor(exports: Exports) -> None:
    await exports.fill(3)
    page = await page_of(exports, resource="users", fields="email", limit="2")
    assert await content(page) == (b'{"email":"u1@x.org"}\n{"email":"u2@x.org"}\n{"_type":"cursor","nextCursor":2}\n')


async def test_a_page_has_its_fields_in_the_requested_order(exports: Exports) -> None:
    await exports.fill(3)
    page = await page_of(exports, resource="users", fields="email,id,name", limit="1", cursor="1")
    assert await content(page) == b'{"email":"u2@x.org","id":2,"name":"User 2"}\n{"_type":"cursor","nextCursor":2}\n'


async def test_a_page_selects_like_a_job(exports: Exports) -> None:
    await exports.fill(40)
    filters = {"status": "draft", "createdAt": {"gte": "2020-01-01"}}
    job = await exports.exported(resource="articles", filters=filters)
    page = await content(await page_of(exports, resource="articles", filters=json.dumps(filters)))
    assert page.splitlines()[:-1] == job.splitlines()
    assert len(job.splitlines()) == 10


def busy(exports: Exports) -> int:
    stats: dict[str, Any] = exports.pool.get_stats()
    return int(stats["pool_size"] - stats["pool_available"])


async def until_free(exports: Exports) -> None:
    while busy(exports):  # noqa: ASYNC110  # the pool tells nobody when a connection is back
        await asyncio.sleep(0.01)


async def test_a_usual_page_uses_no_connection_while_it_is_sent(exports: Exports) -> None:
    await exports.fill(1000)
    page = await page_of(exports, resource="articles")
    assert busy(exports) == 0
    assert len((await content(page)).splitlines()) == 1001


async def large_page(exports: Exports, **query: str) -> RecordPage:
    await exports.sql(
        "insert into wherry.users (email, username, name) "
        "select n, n, repeat('x', 40000) from generate_series(1, 1000) n"
    )
    return await page_of(exports, resource="users", **query)


@pytest.mark.parametrize("fields", [{}, {"fields": "email,name"}])
@pytest.mark.parametrize(("limit", "cursor"), [("1000", 1000), ("999", 999)])
async def test_a_large_page_is_streamed_and_uses_no_connection_between_windows(
    exports: Exports, limit: str, cursor: int, fields: dict[str, str]
) -> None:
    page = await large_page(exports, limit=limit, **fields)
    assert page.next_cursor is None
    received = b""
    async for chunk in page:
        assert busy(exports) == 0
        assert len(chunk) < WINDOW_BYTES + 100_000
        received += chunk
    *records, last = received.splitlines()
    assert last == b'{"_type":"cursor","nextCursor":%d}' % cursor
    emails = [json.loads(record)["email"] for record in records]
    assert emails == [str(number) for number in range(1, cursor + 1)]


async def test_a_large_page_as_json_is_one_object(exports: Exports) -> None:
    body = json.loads(await content(await large_page(exports, format="json", limit="1000")))
    assert [record["id"] for record in body["data"]] == list(range(1, 1001))
    assert body["nextCursor"] == 1000


async def test_a_few_huge_records_among_small_ones_are_read_a_few_at_a_time(exports: Exports) -> None:
    await exports.sql("insert into wherry.users (email, username, name) values ('a@x.y', 'a', 'A')")
    await exports.sql(
        "insert into wherry.articles (author_id, slug, title, body, description, tags, status) "
        "select 1, 'a-' || n, 't', case when n > 40 then repeat('x', 1 << 20) else 'x' end, '', "
        "case when n > 60 then array[repeat('y', 3 << 20)] else '{}' end, 'draft' from generate_series(1, 70) n"
    )
    page = await page_of(exports, resource="articles")
    sizes, seen = [], 0
    async for chunk in page:
        sizes.append(len(chunk))
        seen += chunk.count(b'"slug":')
    assert seen == 70
    assert max(sizes) < WINDOW_BYTES + (5 << 20)


async def test_a_last_page_that_ends_with_a_window_has_no_next_cursor(exports: Exports) -> None:
    await exports.sql("insert into wherry.users (email, username, name) values ('a@x.y', 'a', %s)", "x" * WINDOW_BYTES)
    lines = (await content(await page_of(exports, resource="users"))).splitlines()
    assert [json.loads(line).get("email") for line in lines] == ["a@x.y", None]
    assert json.loads(lines[1])["nextCursor"] is None
    body = json.loads(await content(await page_of(exports, resource="users", format="json")))
    assert (len(body["data"]), body["nextCursor"]) == (1, None)


async def test_a_database_error_is_known_before_anything_is_sent(exports: Exports) -> None:
    asked = parse_page({"resource": ["comments"]}, await exports.tables().current(), max_limit=10)
    await exports.sql("alter table wherry.comments rename to remarks")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await open_page(exports.pool, asked)
    await asyncio.wait_for(until_free(exports), 5)
