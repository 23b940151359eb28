"""A retried import continues where it stopped: no record is lost, and none is written twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.integration.imports.harness import Bench, article, chunks_of, lines
from tests.integration.imports.test_declared_tables import SHOP, TREE, UPDATE, declare, price
from tests.integration.imports.test_interruptions import RECORDS, author_2_locked, claimed, counted, until_committed
from wherry.imports.merge import session_name
from wherry.imports.models import ImportOptions
from wherry.imports.requests import source_key
from wherry.jobs import ledger
from wherry.jobs.models import Job
from wherry.jobs.queue import retry
from wherry.jobs.retention import Retention
from wherry.jobs.states import Kind


async def retried(bench: Bench, job: Job) -> Job:
    async with bench.pool.connection() as connection, connection.transaction():
        queued = await retry(connection, job, None)
    assert queued is not None
    return queued


async def cancelled_after(bench: Bench, job: Job, records: int) -> Job:
    """The job, cancelled once a run has committed at least so many records."""
    work = asyncio.create_task(bench.execute(job))
    await until_committed(bench, job, records)
    async with bench.pool.connection() as connection, connection.transaction():
        await ledger.cancel(connection, job.id)
    done = await work
    assert done.status == "cancelled"
    return done


async def test_an_import_that_is_cancelled_and_retried_twice_writes_every_record_once(authored: Bench) -> None:
    bench = authored.with_settings(import_batch_size=20)
    job = await bench.submit("articles", lines(RECORDS))
    for records in (100, 400):
        cancelled = await cancelled_after(bench, job, records)
        assert cancelled.processed_records < len(RECORDS)
        await counted(bench, job)
        await retried(bench, cancelled)
        assert sum(await counted(bench, job)) == cancelled.processed_records
    done = await bench.execute(job)
    bad = sum(1 for record in RECORDS if not record["title"])
    assert (done.status, done.round, done.epoch, done.total_records) == ("partial", 3, 3, len(RECORDS))
    assert await counted(bench, job) == (len(RECORDS) - bad, bad)
    assert sum(done.error_summary.values()) == bad


async def test_an_atomic_import_that_is_cancelled_and_retried_writes_all(authored: Bench) -> None:
    records = [article(n, author_id=1 if n < 600 else 2) for n in range(1, 1001)]
    bench = authored.with_settings(import_batch_size=20)
    job = await bench.submit("articles", lines(records), options=ImportOptions(atomic=True))
    waiting = "select from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    async with author_2_locked(bench):
        work = asyncio.create_task(bench.execute(job))
        while not await bench.rows(waiting, session_name(job.id)):
            assert not work.done()
        async with bench.pool.connection() as connection:
            await ledger.cancel(connection, job.id)
        cancelled = await work
    assert (cancelled.status, await counted(bench, job)) == ("cancelled", (0, 0))
    await retried(bench, cancelled)
    done = await bench.execute(job)
    assert (done.status, done.round, done.success_count) == ("succeeded", 2, len(records))
    assert await counted(bench, job) == (len(records), 0)


async def test_an_atomic_import_that_is_cancelled_after_its_commit_succeeds_at_once(authored: Bench) -> None:
    job = await authored.submit(
        "articles", lines([article(n) for n in range(1, 6)]), options=ImportOptions(atomic=True)
    )
    run = await claimed(authored, job)
    outcome = await authored.runner().run(run)
    async with authored.pool.connection() as connection:
        await ledger.cancel(connection, job.id)
        cancelled = await ledger.finish(connection, run.lease, outcome)
    assert cancelled.status == "cancelled"
    await retried(authored, cancelled)
    done = await authored.execute(job)
    assert (done.status, done.success_count, done.total_records) == ("succeeded", 5, 5)
    assert await counted(authored, job) == (5, 0)


async def swept(bench: Bench) -> None:
    """What is removed from time to time is removed now."""
    stores = dict.fromkeys(Kind, bench.store)
    await Retention(bench.pool, stores, stores, import_keep=timedelta(hours=1), job_keep=timedelta(days=1)).sweep()


async def test_a_later_record_of_a_retried_import_does_not_update_a_row_again(bench: Bench) -> None:
    place = (await declare(bench, SHOP, prices="shop.price")).with_settings(import_batch_size=10)
    records = [price(f"S-{n % 500}", amount=n // 500) for n in range(1000)]
    job = await place.submit("prices", lines(records), options=UPDATE)
    cancelled = await cancelled_after(place, job, 50)
    await swept(place)
    await retried(place, cancelled)
    done = await place.execute(job)
    assert (done.success_count, done.error_count) == (500, 500)
    assert await place.rows("select count(*) from shop.price where amount > 0") == [{"count": 0}]
    assert await place.rows("select from wherry.import_rows") == []


async def test_postponed_records_survive_a_cancel(bench: Bench) -> None:
    place = (await declare(bench, TREE, t="public.node")).with_settings(import_batch_size=10)
    records = [{"id": n, "parent": 1999} for n in range(20)] + [{"id": n} for n in range(1020, 2000)]
    job = await place.submit("t", lines(records))
    cancelled = await cancelled_after(place, job, 100)
    await swept(place)
    assert len(await place.rows("select from wherry.import_postponed")) == 20
    await retried(place, cancelled)
    done = await place.execute(job)
    assert (done.status, done.success_count, done.total_records) == ("succeeded", 1000, 1000)
    assert await place.rows("select from wherry.import_postponed") == []


async def test_notes_go_when_their_import_cannot_be_retried_any_more(bench: Bench) -> None:
    place = (await declare(bench, TREE, t="public.node")).with_settings(import_batch_size=10)
    records = [{"id": n, "parent": 5000} for n in range(20)] + [{"id": n} for n in range(1000, 1500)]
    cancelled = await cancelled_after(place, await place.submit("t", lines(records)), 100)
    await place.do("update wherry.jobs set completed_at = now() - interval '61 minutes' where id = %s", cancelled.id)
    await swept(place)
    assert await place.rows("select from wherry.import_postponed") == []
    async with place.pool.connection() as connection:
        assert await retry(connection, cancelled, None) is None


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True)], ids=["batches", "atomic"])
async def test_the_error_of_a_file_that_can_be_read_again_is_gone(authored: Bench, options: ImportOptions) -> None:
    records = lines([article(n) for n in range(1, 6)])
    job = await authored.submit("articles", records, options=options)
    await authored.store.delete(source_key(job.id))
    failed = await authored.execute(job)
    assert (failed.status, failed.error_summary) == ("failed", {"FILE_READ_ERROR": 1})
    assert [name for _, name, _ in await authored.faults(job)] == ["FILE_READ_ERROR"]
    await authored.store.put(source_key(job.id), chunks_of(records))
    queued = await retried(authored, failed)
    assert (queued.error, queued.error_summary) == (None, {})
    done = await authored.execute(job)
    assert (done.status, done.error, done.error_summary) == ("succeeded", None, {})
    assert await authored.faults(job) == []
    assert await counted(authored, job) == (5, 0)
