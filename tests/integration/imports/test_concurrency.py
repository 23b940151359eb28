"""Concurrent imports with the same keys, and accounts registered meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, article, lines, user
from wherry.imports.models import ImportOptions, OnConflict
from wherry.jobs.models import Job

COUNT = 120
MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "users": lambda number: {"email": f"user{number}@example.com", "name": f"User {number}"},
    "articles": article,
}
KEYS = {"users": "email", "articles": "slug"}


async def _meet(bench: Bench, resource: str, on_conflict: OnConflict, *, shuffled: bool) -> list[Job]:
    """Three concurrent imports of the same new records, in batches so small that they often collide."""
    small = bench.with_settings(import_batch_size=3)
    await bench.do("insert into wherry.users (id, email, username, name) values (1, 'a@example.com', 'a', 'Author')")
    await bench.do("select setval('wherry.users_id_seq', 1)")
    jobs = []
    for seed in range(3):
        records = [MAKERS[resource](number) for number in range(COUNT)]
        if shuffled:
            random.Random(seed).shuffle(records)
        jobs.append(await small.submit(resource, lines(records), options=ImportOptions(on_conflict)))
    async with asyncio.timeout(60):
        return await asyncio.gather(*(small.execute(job) for job in jobs))


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("on_conflict", [OnConflict.UPDATE, OnConflict.SKIP])
@pytest.mark.parametrize("resource", MAKERS)
async def test_imports_of_the_same_new_records_all_succeed(
    bench: Bench, resource: str, on_conflict: OnConflict, shuffled: bool
) -> None:
    for job in await _meet(bench, resource, on_conflict, shuffled=shuffled):
        assert (job.status, job.success_count) == ("succeeded", COUNT), await bench.errors(job)
    (row,) = await bench.rows(f"select count(*), count(distinct {KEYS[resource]}) as keys from wherry.{resource}")
    own = COUNT if resource == "articles" else COUNT + 1
    assert row == {"count": own, "keys": own}


@pytest.mark.parametrize("resource", MAKERS)
async def test_concurrent_imports_of_the_same_records_create_each_once(bench: Bench, resource: str) -> None:
    jobs = await _meet(bench, resource, OnConflict.ERROR, shuffled=True)
    assert sum(job.success_count for job in jobs) == COUNT
    assert sum(job.error_count for job in jobs) == 2 * COUNT
    faults = Counter([fault[1:] for job in jobs for fault in await bench.faults(job)])
    assert faults == {("DUPLICATE_VALUE", KEYS[resource]): 2 * COUNT}


RACE = """
create sequence races;
create function race() returns trigger language plpgsql as $$
begin
  if new.slug = 'article-2' and nextval('races') <= 20 then
    raise exception 'somebody was faster' using errcode = 'serialization_failure';
  end if;
  return new;
end
$$;
create trigger race before insert on wherry.articles for each row execute function race();
"""


async def test_a_record_that_keeps_losing_to_other_transactions_is_retried_and_not_reported(authored: Bench) -> None:
    await authored.do(RACE)
    job = await authored.submit("articles", lines(article(number) for number in range(4)))
    states = []
    while not (job := await authored.execute(job)).finished:
        states.append((job.status, job.error_count))
    assert len(states) > 1
    assert set(states) == {("queued", 0)}
    assert (job.status, job.success_count, job.error_count) == ("succeeded", 4, 0)
    assert len(await authored.rows("select id from wherry.articles")) == 4


async def test_an_account_registered_during_an_import_gets_an_id_that_no_record_has(bench: Bench) -> None:
    """Without a reservation, the sequence's next id would be the one of the next record."""
    small = bench.with_settings(import_batch_size=10)
    job = await small.submit("users", lines(user(number) for number in range(11, 211)))
    work = asyncio.create_task(small.execute(job))
    while not (await small.job(job)).processed_records:
        assert not work.done()
    others: list[str] = []
    while not work.done():
        name = f"other{len(others)}"
        await bench.do(
            "insert into wherry.users (email, username, name) values (%s, %s, 'Other')", f"{name}@x.org", name
        )
        others.append(name)
    done = await work
    assert (done.status, done.success_count) == ("succeeded", 200)
    assert len(others) > 3
    rows = await bench.rows("select id, name from wherry.users order by id")
    assert [row["name"] for row in rows].count("Other") == len(others)
    assert {row["id"] for row in rows if row["name"] != "Other"} == set(range(11, 211))


@pytest.mark.parametrize(
    ("options", "next_id"),
    [
        (ImportOptions(), 501),
        (ImportOptions(atomic=True), 501),
        (ImportOptions(dry_run=True), 2),
        (ImportOptions(dry_run=True, atomic=True), 2),
    ],
    ids=["batches", "atomic", "dry run", "atomic dry run"],
)
async def test_reserved_ids_that_were_not_used_are_given_back(
    bench: Bench, options: ImportOptions, next_id: int
) -> None:
    await bench.do("insert into wherry.users (email, username, name) values ('a@x.org', 'a', 'First')")
    job = await bench.run("users", [user(500), user(20)], options=options)
    assert job.status == "succeeded"
    await bench.do("insert into wherry.users (email, username, name) values ('b@x.org', 'b', 'Next')")
    assert await bench.rows("select id from wherry.users where name = 'Next'") == [{"id": next_id}]


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)])
async def test_records_with_the_highest_ids_do_not_exhaust_the_sequence(bench: Bench, options: ImportOptions) -> None:
    """If the sequence were moved to its end, nobody could register any more."""
    last = 2**31 - 1
    job = await bench.run("users", [user(last), user(last - 1), user(5)], options=options)
    assert job.status == "succeeded"
    for name in ("a", "b"):
        await bench.do(
            "insert into wherry.users (email, username, name) values (%s, %s, 'Next')", f"{name}@x.org", name
        )
    (highest,) = await bench.rows("select max(id) as id from wherry.users where name = 'Next'")
    assert highest["id"] <= last - 999_990


@pytest.mark.parametrize("first", [ImportOptions(atomic=True), ImportOptions(dry_run=True)], ids=["atomic", "dry run"])
async def test_imports_in_one_transaction_take_turns(authored: Bench, first: ImportOptions) -> None:
    small = authored.with_settings(import_batch_size=20)
    records = [article(number) for number in range(200)]
    orders = {seed: random.Random(seed).sample(records, len(records)) for seed in range(3)}
    options = [first, ImportOptions(atomic=True), ImportOptions(OnConflict.UPDATE, atomic=True)]
    jobs = [await small.submit("articles", lines(orders[seed]), options=options[seed]) for seed in range(3)]
    async with asyncio.timeout(30):
        done = await asyncio.gather(*(small.execute(job) for job in jobs))
    assert all(job.finished for job in done)
    assert [job.epoch for job in done] == [1, 1, 1]
    assert done[2].status == "succeeded"
    assert len(await authored.rows("select id from wherry.articles")) == 200
