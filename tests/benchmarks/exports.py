"""Measures exports: whole jobs against `psql \\copy` in the same run, and pages.

    python -m tests.benchmarks.exports --rows 200000 [--url postgresql://…] [--runs 3] [--cases 1]

A job is measured as a worker runs it: claim, snapshot, encoding, compression, hashing, storage, ledger. psql copies the
same rows in the same order to a file on the same disk. The ratio of the two is what counts; on a shared machine the
figures themselves are worth little. RSS is the worker's peak during a case, everything that it has imported included.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import structlog

from tests.benchmarks.own_table import OWN, OWN_TABLE
from wherry.database import migrations
from wherry.database.pools import Pool, make_pool
from wherry.exports.page import open_page
from wherry.exports.requests import parse_export, parse_page
from wherry.exports.runner import ExportRunner
from wherry.jobs import ledger
from wherry.jobs.executor import Executor
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.states import Kind, Status
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.server_account import temporary_folder
from wherry.settings import load_settings
from wherry.storage.store import Store
from wherry.tables.declarations import Declarations
from wherry.tables.registry import Tables
from wherry.this_process import collect_garbage_less_often, share_threads_fairly

ARTICLE_COLUMNS = "id, slug, title, body, author_id, tags, published_at, status"

WORDS = (
    "the of and to a in that it is was for on are with as his they be at one have this from or had by not but what all "
    "were when your can said there use an each which she do how their if will up other about out many then them these "
    "so some her would make like him into time has"
)
"""The commonest there are: text that compresses as text does."""

FILL = (
    """
    insert into wherry.users (email, username, name, role, created_at)
    select 'user' || n || '@example.org', 'user' || n, 'User number ' || n, 'user', now() - n * interval '1.234567 s'
    from generate_series(1, greatest(%(rows)s / 10, 1)) as n
    """,
    """
    insert into wherry.articles (slug, title, body, description, author_id, tags, status, published_at)
    select 'article-number-' || n, 'Title of article ' || n,
      (select string_agg(words[1 + (hashint4(n * 997 + part) & 63)], ' ') from generate_series(1, 125) as part)
        || case when n %% 10 = 0 then ' "Zitat" \\ wörtlich' else ' "quote" \\ and the rest' end,
      'd', 1 + n %% greatest(%(rows)s / 10, 1), array['alpha', 'tag' || n %% 10],
      case when n %% 4 = 0 then 'draft' else 'published' end,
      case when n %% 4 = 0 then null else timestamptz '2020-01-01Z' + n * interval '37.123456 s' end
    from generate_series(1, %(rows)s) as n, string_to_array(%(words)s, ' ') as words
    """,
    """
    insert into shop.item
    select n, 'item-' || n, n %% 9000 + (n %% 100) / 100.0, n %% 500, n %% 2 = 0, md5(n::text)::uuid,
      timestamptz '2020-01-01Z' + n * interval '37.123456 s', date '2020-01-01' + n %% 900, 'sold',
      jsonb_build_object('colour', 'blue', 'sizes', array[1, 2, n %% 10], 'note', 'made of ' || n %% 77 || ' parts')
    from generate_series(1, %(rows)s) as n
    """,
    """
    insert into wherry.comments (body, article_id, user_id)
    select 'A comment of some length, which is number ' || n, n, 1 + n %% greatest(%(rows)s / 10, 1)
    from generate_series(1, %(rows)s) as n
    """,
)


@dataclass(frozen=True)
class Case:
    """A job, and the query that psql copies beside it."""

    body: dict[str, Any]
    query: str
    options: str = ""
    name: str = field(default="")


def cases() -> Iterator[Case]:
    articles = f"select {ARTICLE_COLUMNS} from wherry.articles order by id"
    for extra in ({}, {"format": "json"}, {"compression": "gzip"}, {"compression": "zstd"}):
        yield Case({"resource": "articles", **extra}, articles)
    yield Case({"resource": "articles", "format": "csv"}, articles, "with (format csv, header)")
    yield Case(
        {"resource": "articles", "fields": ["id", "slug", "status"]},
        "select id, slug, status from wherry.articles order by id",
    )
    drafts = f"select {ARTICLE_COLUMNS} from wherry.articles where status = 'draft' order by id"
    yield Case({"resource": "articles", "filters": {"status": "draft"}}, drafts)
    yield Case(
        {"resource": "users"},
        "select id, email, name, role, active, created_at, updated_at from wherry.users order by id",
    )
    items = "id, code, amount, quantity, is_new, owner, made_at, sold_on, state, meta"
    yield Case({"resource": "items"}, f"select {items} from shop.item order by id")
    yield Case(
        {"resource": "comments"}, "select id, article_id, user_id, body, created_at from wherry.comments order by id"
    )


def psql_seconds(url: str, case: Case, folder: Path) -> float:
    target = folder / "copy"
    command = [str(shutil.which("psql")), url, "-qc", f"\\copy ({case.query}) to '{target}' {case.options}"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    target.unlink()
    return seconds


async def job_seconds(pool: Pool, tables: Tables, executor: Executor, case: Case) -> tuple[float, Job]:
    asked = parse_export(case.body, await tables.current())
    new = NewJob(
        id=new_job_id(),
        kind=Kind.EXPORT,
        owner_id=None,
        resource=asked.selection.table.name,
        format=asked.format,
        options=asked.options(),
    )
    async with pool.connection() as connection, connection.transaction():
        await ledger.create(connection, new)
    begun = time.perf_counter()
    await executor.execute(new.id)
    seconds = time.perf_counter() - begun
    async with pool.connection() as connection:
        job = await ledger.get(connection, new.id)
    assert job is not None
    assert job.status is Status.SUCCEEDED, job.error
    return seconds, job


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


async def measure_jobs(url: str, folder: Path, runs: int, count: int) -> None:
    settings = load_settings(database_url=url, export_max_records=100_000_000)
    store = Store(str(folder / "store"))
    print(f"{'job':58} {'rows/s':>9} {'MB/s':>6} {'psql rows/s':>12} {'ratio':>6} {'RSS':>5}")
    async with make_pool(url, name="benchmark", max_size=4) as pool:
        tables = Tables(pool, OWN)
        executor = Executor(pool, {Kind.EXPORT: ExportRunner(pool, tables, url, store, settings)})
        for case in islice(cases(), count):
            ours, theirs = [], []
            for _ in range(runs):
                theirs.append(await asyncio.to_thread(psql_seconds, url, case, folder))
                reset_peak()
                seconds, job = await job_seconds(pool, tables, executor, case)
                ours.append(seconds)
                assert job.artifact is not None
                await store.delete(job.artifact["key"])
            mine, psql = min(ours), min(theirs)
            rows = job.processed_records
            assert job.artifact is not None
            print(
                f"{case.body!s:58} {rows / mine:9,.0f} {job.artifact['size'] / mine / 1e6:6.0f} {rows / psql:12,.0f}"
                f" {psql / mine:6.2f} {peak_megabytes():5d}",
                flush=True,
            )


async def measure_pages(url: str, pages: int) -> None:
    print(f"\n{'page':58} {'pages/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'rows/s':>9}")
    async with make_pool(url, name="benchmark", max_size=2) as pool:
        tables = await Tables(pool, Declarations()).current()
        for query in (
            {"resource": ["articles"]},
            {"resource": ["articles"], "limit": ["100"]},
            {"resource": ["comments"]},
        ):
            times, cursor, rows = [], 0, 0
            for _ in range(pages):
                begun = time.perf_counter()
                asked = parse_page({**query, "cursor": [str(cursor)]}, tables, max_limit=1000)
                page = await open_page(pool, asked)
                async for _chunk in page:
                    pass
                times.append(time.perf_counter() - begun)
                cursor, rows = page.next_cursor or 0, rows + asked.limit
            times.sort()
            middle, late = times[len(times) // 2], times[len(times) * 99 // 100]
            total = sum(times)
            name = str({name: value[0] for name, value in query.items()})
            print(
                f"{name:58} {pages / total:9.0f} {middle * 1e3:8.1f} {late * 1e3:8.1f} {rows / total:9,.0f}", flush=True
            )


@contextmanager
def database(url: str | None, rows: int) -> Iterator[str]:
    """The database to measure in: the given one as it is, or a server of its own, filled."""
    if url is not None:
        yield url
        return
    with temporary_folder("wherry-benchmark-") as folder, EmbeddedPostgres(folder / "postgres") as server:
        asyncio.run(migrations.migrate(server.url))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(OWN_TABLE)
            for statement in FILL:
                connection.execute(statement.encode(), {"rows": rows, "words": WORDS})
            connection.execute("vacuum analyze")
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="articles, and as many comments")
    parser.add_argument("--url", help="measure in this database, filled before, instead of a server of its own")
    parser.add_argument("--runs", type=int, default=3, help="of each case; the best of each side counts")
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--cases", type=int, default=99, help="only the first so many")
    asked = parser.parse_args()
    structlog.configure(processors=[_drop])
    collect_garbage_less_often()
    share_threads_fairly()
    with database(asked.url, asked.rows) as url, TemporaryDirectory(prefix="wherry-benchmark-") as folder:
        asyncio.run(measure_jobs(url, Path(folder), asked.runs, asked.cases))
        asyncio.run(measure_pages(url, asked.pages))


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
