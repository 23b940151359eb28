"""Imports that meet each other at the same keys."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, article, lines
from wherry.imports.models import OnConflict, Options
from wherry.jobs.models import Job

COUNT = 120
MAKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "users": lambda number: {"email": f"user{number}@example.com", "name": f"User {number}"},
    "articles": article,
}
KEYS = {"users": "email", "articles": "slug"}


async def _meet(bench: Bench, resource: str, on_conflict: OnConflict, *, shuffled: bool) -> list[Job]:
    """Three imports of the same new records at once, in batches so small that they meet often."""
    small = bench.with_settings(import_batch_size=3)
    await bench.do("insert into users (id, email, username, name) values (1, 'a@example.com', 'a', 'Author')")
    await bench.do("select setval('users_id_seq', 1)")
    jobs = []
    for seed in range(3):
        records = [MAKERS[resource](number) for number in range(COUNT)]
        if shuffled:
            random.Random(seed).shuffle(records)
        jobs.append(await small.submit(resource, lines(records), options=Options(on_conflict)))
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
    (row,) = await bench.rows(f"select count(*), count(distinct {KEYS[resource]}) as keys from {resource}")
    own = COUNT if resource == "articles" else COUNT + 1
    assert row == {"count": own, "keys": own}


@pytest.mark.parametrize("resource", MAKERS)
async def test_of_imports_that_create_the_same_records_each_is_created_by_one(bench: Bench, resource: str) -> None:
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
create trigger race before insert on articles for each row execute function race();
"""


async def test_a_record_that_always_loses_is_tried_again_and_not_reported(authored: Bench) -> None:
    await authored.do(RACE)
    job = await authored.submit("articles", lines(article(number) for number in range(4)))
    states = []
    while not (job := await authored.execute(job)).finished:
        states.append((job.status, job.error_count))
    assert len(states) > 1
    assert set(states) == {("queued", 0)}
    assert (job.status, job.success_count, job.error_count) == ("succeeded", 4, 0)
    assert len(await authored.rows("select id from articles")) == 4
