"""Whatever stops a run, and whenever, no record is lost and none is written twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from tests.builtin_tables import ARTICLES
from tests.integration.imports.harness import Bench, article, lines, user
from wherry.accounts.authority import Authority
from wherry.database import pools
from wherry.database.queries import load
from wherry.errors import JobCancelled, JobReleased, LeaseLost
from wherry.imports.decode import Decoder
from wherry.imports.merge import Merger, session_name
from wherry.imports.models import ImportOptions, OnConflict, Place
from wherry.imports.plan import Rules
from wherry.imports.readers.ndjson import LineSplitter
from wherry.imports.readers.records import JsonParser
from wherry.imports.requests import options_of
from wherry.imports.source import ReadingProgress
from wherry.imports.writers import ImportTask, all_or_nothing
from wherry.jobs import ledger
from wherry.jobs.models import Advance, Job
from wherry.jobs.runs import Run

RECORDS = [article(n) if n % 7 else article(n, title="") for n in range(1, 1001)]
NOBODYS = Authority(None, "admin", ())
BAD = sum(1 for record in RECORDS if not record["title"])


BY_TWO_AUTHORS = [{**record, "author_id": 1 if n < 600 else 2} for n, record in enumerate(RECORDS)]
"""While the row of author 2 is locked, a run stops after 600 records."""


def as_array(records: list[Any]) -> bytes:
    return json.dumps(records).encode()


SOURCES: dict[str, tuple[str, Callable[[list[Any]], bytes]]] = {
    "ndjson": ("ndjson", lines),
    "array": ("json", as_array),
    "gzip": ("ndjson", lambda records: gzip.compress(lines(records))),
    "no last newline": ("ndjson", lambda records: lines(records).rstrip(b"\n")),
    "gzip array": ("json", lambda records: b"\xef\xbb\xbf" + as_array(records)),
}


@pytest.fixture
def authored(authored: Bench) -> Bench:
    """Small batches, so that a run takes long enough to be stopped."""
    return authored.with_settings(import_batch_size=20)


async def claimed(bench: Bench, job: Job) -> Run:
    async with bench.pool.connection() as connection, connection.transaction():
        claim = await ledger.claim(connection, job.id)
    assert claim is not None
    return Run(claim.job, claim.lease, bench.pool)


@asynccontextmanager
async def author_2_locked(bench: Bench) -> AsyncIterator[None]:
    async with bench.pool.connection() as other, other.transaction():
        await other.execute("select from wherry.users where id = 2 for update")
        yield


async def counted(bench: Bench, job: Job) -> tuple[int, int]:
    """Rows and errors in the tables. The job's counters must agree with them at any moment."""
    query = """
    select (select count(*) from wherry.articles where import_job_id = jobs.id) as rows,
      (select count(distinct record_index) from wherry.import_errors where job_id = jobs.id and record_index >= 0)
        as errors,
      success_count, error_count
    from wherry.jobs where id = %s
    """
    (row,) = await bench.rows(query, job.id)
    assert (row["rows"], row["errors"]) == (row["success_count"], row["error_count"])
    return row["rows"], row["errors"]


async def until_committed(bench: Bench, job: Job, records: int) -> None:
    """Wait until a run has committed at least so many records."""
    async with await psycopg.AsyncConnection.connect(bench.pool.conninfo, autocommit=True) as connection:
        await connection.execute("listen wherry_jobs")
        while True:
            now = await bench.job(job)
            if now.processed_records >= records:
                return
            async for _ in connection.notifies(timeout=0.5, stop_after=1):
                pass


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_stopped_run_is_continued_from_its_checkpoint(authored: Bench, kind: str) -> None:
    format, wrap = SOURCES[kind]
    job = await authored.submit("articles", wrap(BY_TWO_AUTHORS), format=format)
    for stop_after in (100, 300, 500):
        run = await claimed(authored, job)
        async with author_2_locked(authored):
            work = asyncio.create_task(authored.runner().run(run))
            await until_committed(authored, job, stop_after)
            run.stopping.set()
        with pytest.raises(JobReleased):
            await work
        rows, errors = await counted(authored, job)
        assert stop_after <= rows + errors < 1000
        async with authored.pool.connection() as connection, connection.transaction():
            await ledger.release(connection, run.lease)
    done = await authored.execute(job)
    assert (done.status, done.total_records, done.epoch) == ("partial", 1000, 4)
    assert await counted(authored, job) == (1000 - BAD, BAD)


@pytest.mark.parametrize("kind", SOURCES)
async def test_a_job_whose_run_died_after_the_last_batch_ends_in_the_same_way(authored: Bench, kind: str) -> None:
    format, wrap = SOURCES[kind]
    job = await authored.submit("articles", wrap(RECORDS), format=format)
    run = await claimed(authored, job)
    ended = await authored.runner().run(run)
    done = await authored.execute(job)
    assert (done.status, done.total_records, done.epoch) == (ended.status, ended.total_records, 2)
    assert await counted(authored, job) == (1000 - BAD, BAD)


async def test_a_run_that_dies_at_any_moment_loses_and_repeats_no_record(authored: Bench) -> None:
    bench = authored
    job = await bench.submit("articles", lines(RECORDS))
    chance = random.Random(11)
    interrupted = 0
    for _ in range(30):
        run = await claimed(bench, job)
        work = asyncio.create_task(bench.runner().run(run))
        await asyncio.wait({work}, timeout=chance.uniform(0.001, 0.03))
        work.cancel()
        await asyncio.wait({work})
        interrupted += work.cancelled()
        await counted(authored, job)
        async with bench.pool.connection() as connection, connection.transaction():
            await ledger.release(connection, run.lease)  # or its deaths would be counted
    assert interrupted > 5
    await authored.execute(job)
    assert await counted(authored, job) == (1000 - BAD, BAD)


async def test_a_job_whose_connection_is_cut_is_requeued_and_continued(authored: Bench) -> None:
    job = await authored.submit("articles", lines(RECORDS))
    cuts = 0
    while not (now := await authored.job(job)).finished:
        work = asyncio.create_task(authored.execute(job))
        await until_committed(authored, job, min(1000, now.processed_records + 200))
        cut = await authored.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
            f"wherry import {job.id}",
        )
        cuts += len(cut)
        await work
    assert await counted(authored, job) == (1000 - BAD, BAD)


async def test_a_worker_that_was_replaced_writes_nothing_more(authored: Bench) -> None:
    job = await authored.submit("articles", lines(BY_TWO_AUTHORS))
    held = await claimed(authored, job)
    async with author_2_locked(authored):
        zombie = asyncio.create_task(authored.runner().run(held))
        await until_committed(authored, job, 600)
        successor = asyncio.create_task(authored.execute(job))
        with pytest.raises((LeaseLost, psycopg.OperationalError)):
            await zombie
    done = await successor
    assert (done.status, done.epoch) == ("partial", 2)
    assert await counted(authored, job) == (1000 - BAD, BAD)


async def test_the_locks_of_a_suspended_worker_do_not_block_its_successor(authored: Bench) -> None:
    job = await authored.submit("articles", lines(RECORDS))
    old = await claimed(authored, job)
    async with authored.pool.connection() as stopped, stopped.transaction(force_rollback=True):
        merger = Merger(ARTICLES, job.id, Rules(OnConflict.ERROR, NOBODYS))
        decoder = Decoder(ARTICLES, JsonParser(), caller_role="admin", max_bytes=1000)
        batch = [decoder.decode(raw) for raw in LineSplitter(Place(), 1000).feed(lines(RECORDS[:50]))]
        await merger.write(stopped, batch, merger.care)  # the worker is suspended here, with its rows locked
        async with asyncio.timeout(pools.ABANDONED_SECONDS - 5):  # the server would end an idle session, too
            done = await authored.execute(job)
        with suppress(psycopg.Error):  # its session was ended
            await ledger.advance(stopped, old.lease, Advance())
    assert (done.status, done.epoch) == ("partial", 2)
    assert await counted(authored, job) == (1000 - BAD, BAD)


@pytest.mark.parametrize("options", [ImportOptions(atomic=True), ImportOptions(dry_run=True)], ids=["atomic", "dryRun"])
async def test_a_run_in_one_transaction_starts_over_and_counts_once(authored: Bench, options: ImportOptions) -> None:
    records = [record for record in RECORDS if record["title"]] if options.atomic else RECORDS
    job = await authored.submit("articles", lines(records), options=options)
    run = await claimed(authored, job)
    work = asyncio.create_task(authored.runner().run(run))
    if options.dry_run:
        await until_committed(authored, job, 300)
    run.stopping.set()
    with pytest.raises(JobReleased):
        await work
    done = await authored.execute(job)
    rows = (await authored.rows("select count(*) from wherry.articles"))[0]["count"]
    assert (done.success_count, done.error_count) == (1000 - BAD, 0 if options.atomic else BAD)
    assert rows == (1000 - BAD if options.atomic else 0)
    assert len(await authored.errors(job)) == done.error_count


async def test_two_concurrent_imports_of_the_same_keys_create_each_once(authored: Bench) -> None:
    records = [article(n, body="Text " * 50) for n in range(1, 601)]
    bench = authored.with_settings(import_batch_size=200)
    jobs = [await bench.submit("articles", lines(order)) for order in (records, records[::-1])]
    done = await asyncio.gather(*(bench.execute(job) for job in jobs))
    assert sum(job.success_count for job in done) == 600
    assert sum(job.error_count for job in done) == 600
    assert {name for job in done for _, name, _ in await authored.faults(job)} == {"DUPLICATE_VALUE"}
    assert (await authored.rows("select count(*) from wherry.articles"))[0]["count"] == 600


async def test_two_concurrent_updates_of_the_same_rows_both_succeed(authored: Bench) -> None:
    records = [article(n, id=n) for n in range(1, 301)]
    await authored.run("articles", records)
    bench = authored.with_settings(import_batch_size=100)
    jobs = [await bench.submit("articles", lines(order)) for order in (records, records[::-1])]
    done = await asyncio.gather(*(bench.execute(job) for job in jobs))
    assert [job.success_count for job in done] == [300, 300]


async def test_a_cancelled_import_keeps_and_counts_its_committed_rows(authored: Bench) -> None:
    job = await authored.submit("articles", lines(RECORDS))
    work = asyncio.create_task(authored.execute(job))
    await until_committed(authored, job, 200)
    async with authored.pool.connection() as connection, connection.transaction():
        await ledger.cancel(connection, job.id)
    async with asyncio.timeout(2):
        done = await work
    assert done.status == "cancelled"
    rows, errors = await counted(authored, job)
    assert 200 <= rows + errors < 1000


async def test_an_import_that_waits_for_a_lock_can_be_cancelled(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=1)])
    async with authored.pool.connection() as other, other.transaction():
        await other.execute("update wherry.articles set title = 'mine' where id = 1")
        job = await authored.submit("articles", lines([article(1, id=1)]))
        work = asyncio.create_task(authored.execute(job))
        async with authored.pool.connection() as watcher:
            waiting = "select 1 from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
            while not await (await watcher.execute(waiting, [f"wherry import {job.id}"])).fetchone():
                assert not work.done()
        async with authored.pool.connection() as connection, connection.transaction():
            await ledger.cancel(connection, job.id)
        async with asyncio.timeout(2):
            done = await work
    assert (done.status, done.processed_records) == ("cancelled", 0)


async def test_a_committed_atomic_import_is_not_repeated_if_its_worker_dies(authored: Bench) -> None:
    records = [article(n, id=n + 10) for n in range(250)]
    job = await authored.submit("articles", lines(records), options=ImportOptions(atomic=True))
    run = await claimed(authored, job)
    await authored.runner().run(run)  # and the worker dies
    await authored.store.delete(str((job.source or {})["key"]))  # not needed any more
    done = await authored.execute(job)
    assert (done.status, done.success_count, done.error_count, done.total_records) == ("succeeded", 250, 0, 250)
    assert await counted(authored, job) == (250, 0)


async def test_an_atomic_import_that_is_cancelled_after_its_last_batch_writes_nothing(authored: Bench) -> None:
    job = await authored.submit("articles", b"", options=ImportOptions(atomic=True))
    run = await claimed(authored, job)
    task = ImportTask(
        run, ARTICLES, options_of(job), NOBODYS, batch_size=100, max_records=1000, max_error_bytes=1 << 20
    )
    decoder = Decoder(ARTICLES, JsonParser(), caller_role="admin", max_bytes=1000)
    batch = [decoder.decode(raw) for raw in LineSplitter(Place(), 1000).feed(lines(RECORDS[:5]))]

    async def write_and_cancel() -> None:
        async with all_or_nothing(authored.pool, task) as writer:
            await writer.write(batch, ReadingProgress())
            async with authored.pool.connection() as connection, connection.transaction():
                await ledger.cancel(connection, job.id)

    with pytest.raises(JobCancelled):
        await write_and_cancel()
    assert await authored.rows("select 1 from wherry.articles") == []


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True)], ids=["batches", "atomic"])
async def test_a_run_that_was_replaced_does_not_end_its_successors_session(
    authored: Bench, options: ImportOptions
) -> None:
    job = await authored.submit("articles", lines(RECORDS), options=options)
    late, successor = await claimed(authored, job), await claimed(authored, job)
    async with authored.pool.connection() as working, working.transaction():
        await working.execute(load("imports")["prepare"], {"name": session_name(job.id), "owner_id": None})
        with pytest.raises(LeaseLost):
            await authored.runner().run(late)
        await working.execute("select 1")
    assert successor.lease.epoch == 2


async def test_a_successor_can_find_the_session_of_an_import_that_waits_for_its_turn(authored: Bench) -> None:
    """Imports in one transaction take turns, and wait for theirs without a time limit."""
    job = await authored.submit("articles", lines(RECORDS[1:7]), options=ImportOptions(atomic=True))
    stopped = await claimed(authored, job)
    async with authored.pool.connection() as turn, turn.transaction():
        await turn.execute(load("imports")["lock_whole"], {"table": "articles"})
        task = ImportTask(
            stopped, ARTICLES, options_of(job), NOBODYS, batch_size=100, max_records=1000, max_error_bytes=1 << 20
        )
        async with all_or_nothing(authored.pool, task):
            named = "select 1 from pg_stat_activity where application_name = %s and pid <> pg_backend_pid()"
            assert len(await authored.rows(named, session_name(job.id))) == 1


@pytest.fixture
async def hasty(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A database that soon ends transactions that are idle."""
    options = pools.SESSION_OPTIONS.replace(f"={pools.ABANDONED_SECONDS}s", "=200ms")
    assert options != pools.SESSION_OPTIONS
    monkeypatch.setattr(pools, "SESSION_OPTIONS", options)
    async with pools.make_pool(bench.pool.conninfo, name="imports-test", max_size=5) as pool:
        yield Bench(pool, bench.store, bench.settings)


async def test_a_worker_that_hangs_before_its_commit_loses_the_job_to_the_next(hasty: Bench) -> None:
    job = await hasty.submit("articles", b"")
    run = await claimed(hasty, job)

    async def count_and_fall_silent() -> None:
        async with hasty.pool.connection() as silent, silent.transaction():
            await ledger.advance(silent, run.lease, Advance(successes=1))
            async with asyncio.timeout(10):
                assert (await claimed(hasty, job)).lease.epoch == run.lease.epoch + 1

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        await count_and_fall_silent()
    assert (await hasty.job(job)).success_count == 0


async def test_an_atomic_import_that_hangs_before_its_commit_is_ended(
    authored: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then it has locked the job's row."""
    monkeypatch.setattr("wherry.imports.writers.ABANDONED_SECONDS", 0.2)
    job = await authored.submit("articles", b"", options=ImportOptions(atomic=True))
    run = await claimed(authored, job)
    task = ImportTask(
        run, ARTICLES, options_of(job), NOBODYS, batch_size=100, max_records=1000, max_error_bytes=1 << 20
    )
    gone = "select from pg_stat_activity where application_name = %s having count(*) = 0"

    async def count_and_fall_silent() -> None:
        async with asyncio.timeout(10), all_or_nothing(authored.pool, task) as writer:
            await writer.count_all()  # type: ignore[attr-defined]
            while not await authored.rows(gone, session_name(job.id)):
                pass

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        await count_and_fall_silent()


@pytest.mark.parametrize(
    "options", [ImportOptions(atomic=True), ImportOptions(dry_run=True)], ids=["atomic", "dry run"]
)
async def test_an_import_in_one_transaction_may_wait_for_its_source(hasty: Bench, options: ImportOptions) -> None:
    arrived = asyncio.Event()

    async def slow(url: str, *, allowed_hosts: Sequence[str], max_bytes: int) -> AsyncIterator[bytes]:
        asyncio.get_running_loop().call_later(1, arrived.set)
        await arrived.wait()
        yield lines([user(1)])

    job = await hasty.submit("users", None, url="https://data.example.com/users.ndjson", options=options)
    done = await hasty.execute(job, hasty.runner(fetch=slow))
    assert (done.status, done.success_count) == ("succeeded", 1)
