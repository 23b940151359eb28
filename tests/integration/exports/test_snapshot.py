"""An export shows one moment, however much is written meanwhile."""

from __future__ import annotations

import asyncio
import json
import random

import psycopg
import pytest
from psycopg import sql

from tests.integration.exports.conftest import Exports
from wherry.exports import statements
from wherry.exports.requests import parse_export
from wherry.exports.snapshot import Snapshot, connected_ahead

ARTICLES = 60
WRITES = 3


async def write_until(exports: Exports, done: asyncio.Event, seed: int) -> int:
    """Move one unit of a fixed sum between articles, and replace comments, until the exports are done."""
    chance = random.Random(seed)
    writes = 0
    async with await psycopg.AsyncConnection.connect(exports.url) as connection:
        while not done.is_set():
            first, second = sorted(chance.sample(range(1, ARTICLES + 1), 2))
            await connection.execute("update wherry.articles set body = (body::int - 1)::text where id = %s", [first])
            await connection.execute("update wherry.articles set body = (body::int + 1)::text where id = %s", [second])
            await connection.execute(
                "with gone as ("
                "  delete from wherry.comments "
                "where id = (select min(id) from wherry.comments where id %% 3 = %s) returning id"
                ") insert into wherry.comments (body, article_id, user_id) select 'new', %s, 1 from gone",
                [seed, first],
            )
            await connection.commit()
            writes += 1
    return writes


async def test_each_export_equals_its_snapshot_despite_concurrent_writes(exports: Exports) -> None:
    """The sum is the same in every snapshot. Windows of seven rows would expose a read that is not one snapshot."""
    await exports.fill(ARTICLES)
    await exports.sql("update wherry.articles set body = '1000'")
    done = asyncio.Event()
    writers = [asyncio.create_task(write_until(exports, done, seed)) for seed in range(WRITES)]
    for _ in range(5):
        settings = {"export_batch_size": 7}
        content = await exports.exported(resource="articles", fields="id,body", settings=settings)
        records = [json.loads(line) for line in content.splitlines()]
        assert [record["id"] for record in records] == list(range(1, ARTICLES + 1))
        assert sum(int(record["body"]) for record in records) == 1000 * ARTICLES
        comments = await exports.exported(resource="comments", fields="id,article_id", settings=settings)
        found = [json.loads(line) for line in comments.splitlines()]
        # As many as there were: each writer deletes one for each that it adds, in one transaction.
        assert len(found) == ARTICLES
        assert [each["id"] for each in found] == sorted({each["id"] for each in found})
    done.set()
    assert min(await asyncio.gather(*writers)) > 0


async def test_what_is_committed_after_the_first_row_is_not_in_the_export(exports: Exports) -> None:
    await exports.fill(20)
    selection = parse_export({"resource": "users", "fields": "id,name"}, await exports.tables().current()).selection
    with connected_ahead(exports.url) as connecting:
        snapshot = Snapshot(connecting, selection, batch_rows=5, max_rows=1000)
        batches = snapshot.batches()
        first = await asyncio.to_thread(next, batches)
        await exports.sql("update wherry.users set name = 'changed'")
        await exports.sql("delete from wherry.comments")
        await exports.sql("delete from wherry.articles")
        await exports.sql("delete from wherry.users where id > 10")
        await exports.sql("insert into wherry.users (email, username, name) values ('late', 'late', 'late')")
        rows = [*first, *(row for batch in await asyncio.to_thread(list, batches) for row in batch)]
    assert rows == [(number, f"User {number}") for number in range(1, 21)]
    assert (snapshot.rows, snapshot.truncated) == (20, False)


async def test_ids_may_have_gaps_and_reach_the_end_of_their_range(exports: Exports) -> None:
    for number in (1, 2, 70, 2147483646, 2147483647):
        await exports.sql(
            "insert into wherry.users (id, email, username, name) values (%s, %s, %s, 'n')", number, number, number
        )
    content = await exports.exported(resource="users", fields="id", settings={"export_batch_size": 2})
    assert [json.loads(line)["id"] for line in content.splitlines()] == [1, 2, 70, 2147483646, 2147483647]


async def test_the_snapshot_is_read_only(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever SQL a selection might produce, its transaction could not change anything."""
    await exports.fill(6)
    writing = sql.SQL("update wherry.users set name = 'changed' where id < %(limit)s returning name")
    monkeypatch.setattr(statements, "export", lambda selection: writing.format())
    selection = parse_export({"resource": "users", "fields": "name"}, await exports.tables().current()).selection
    with connected_ahead(exports.url) as connecting:
        snapshot = Snapshot(connecting, selection, batch_rows=5, max_rows=10)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await asyncio.to_thread(list, snapshot.batches())
