"""Measures imports: whole jobs against `psql \\copy … from` in the same run.

    python -m tests.benchmarks.imports --rows 100000 1000000 [--cases clean gzip] [--batch 5000] [--runs 1]

A job is measured as a worker runs it: claim, reading, decoding, checking, writing, ledger. psql copies the same rows
into a twin of the table, with the same columns, indexes and constraints, right before. The ratio of the two is what
counts; on a shared machine the figures themselves are worth little. RSS is the peak of this process during a case,
everything that it has imported included.

clean   articles of about 700 bytes that are all new
bad     the same, two in a hundred with a fault
update  the same again, over rows that are there
array   clean, as one JSON array
nested  clean, as the member `data` of a JSON object
csv     clean, as csv
gzip    clean, compressed
own     a table that only a line of TOML declares: ten columns of nine types, a unique key and a CHECK
own-bad, own-update, own-csv, own-nested   as above
own-id, own-ref     own, with a reference to one of 1,000 rows: by id, and by key
own-ids, own-refs   the same, each to another row
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import io
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg
import structlog

from tests.benchmarks.exports import peak_megabytes, reset_peak
from tests.benchmarks.own_table import OWN, OWN_TABLE
from wherry.database import migrations
from wherry.database.pools import Pool, make_pool
from wherry.imports.models import ImportOptions, OnConflict
from wherry.imports.requests import TABLE, ImportSource, job_options
from wherry.imports.runner import ImportRunner
from wherry.jobs import ledger
from wherry.jobs.executor import Executor
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.states import Kind, Status
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.server_account import temporary_folder
from wherry.settings import load_settings
from wherry.storage.store import Store
from wherry.tables.registry import Tables
from wherry.this_process import collect_garbage_less_often, share_threads_fairly

CASES = (
    *("clean", "bad", "update", "array", "nested", "csv", "gzip"),
    *("own", "own-bad", "own-update", "own-csv", "own-nested", "own-id", "own-ref", "own-ids", "own-refs"),
)
ENVELOPES = {"array": (b"[", b",\n", b"]\n"), "nested": (b'{"data":[', b",\n", b'],"nextCursor":null}\n')}
"""What precedes the records, what separates them, and what follows them, if they are not lines."""
AUTHORS = 1000
WORDS = ("harbour", "lantern", "copper", "meadow", "\\u00fcber", "quiet", '\\"so\\"', "winter", "granite", "north")

TWIN = """
drop table if exists twin;
create table twin (like wherry.articles including all);
alter table twin add constraint twin_author_fkey foreign key (author_id) references wherry.users (id);
"""
OWN_TWIN = "drop table if exists twin; create table twin (like shop.item including all)"
MAKERS = 1000
BY_REFERENCE = ("own-id", "own-ref", "own-ids", "own-refs")


def item(number: int, *, broken: bool) -> bytes:
    """One record of the table of a user's own."""
    amount = -1 if broken else f"{number % 9000}.{number % 100:02}"
    text = (
        f'{{"id":{number},"code":"item-{number}","amount":{amount},"quantity":{number % 500},'
        f'"is_new":{"true" if number % 2 else "false"},"owner":"00000000-0000-4000-8000-{number:012x}",'
        f'"made_at":"2024-{number % 12 + 1:02}-{number % 28 + 1:02}T08:15:{number % 60:02}.123456Z",'
        f'"sold_on":"2024-{number % 12 + 1:02}-{number % 28 + 1:02}","state":"sold",'
        f'"meta":{{"colour":"blue","sizes":[1,2,{number % 10}],"note":"made of {number % 77} parts"}}}}'
    )
    return text.encode()


def part(number: int, case: str) -> bytes:
    """One record that refers to a maker."""
    maker = number if case.endswith("s") else number % MAKERS
    given = (
        f'"maker_id":{maker}' if case in ("own-id", "own-ids") else f'"maker":{{"email":"maker{maker}@example.org"}}'
    )
    return item(number, broken=False)[:-1] + f",{given}}}".encode()


def article(number: int, *, broken: bool) -> bytes:
    """One record of about 700 bytes; its text differs from its neighbour's."""
    words = [WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(72)]
    slug = f"Not A Slug {number}" if broken else f"article-number-{number}"
    date = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}T08:15:{number % 60:02}.000Z"
    text = (
        f'{{"slug":"{slug}","title":"Article number {number}","body":"{number} {" ".join(words)}",'
        f'"author_id":{number % AUTHORS + 1},"tags":["sea","tag{number % 50}"],"published_at":"{date}",'
        f'"status":"published"}}'
    )
    return text.encode()


def write_source(case: str, rows: int, path: Path) -> None:
    """The file of a case."""
    with path.open("wb") as plain, gzip.open(plain, "wb", 6) if case == "gzip" else nullcontext(plain) as file:
        lead, between, closing = ENVELOPES.get(case.removeprefix("own-"), (b"", b"\n", b"\n"))
        make = item if case.startswith("own") else article
        is_csv = case.endswith("csv")
        file.write(csv_line(msgspec.json.decode(make(0, broken=False))) if is_csv else lead)
        for number in range(rows):
            is_broken = case.endswith("bad") and number % 50 == 0
            record = part(number, case) if case in BY_REFERENCE else make(number, broken=is_broken)
            if is_csv:
                file.write(csv_line(msgspec.json.decode(record).values()))
            else:
                file.write((between if number else b"") + record)
        file.write(b"" if is_csv else closing)


def csv_line(cells: Iterable[Any]) -> bytes:
    """Cells as the standard library writes them."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(
        msgspec.json.encode(cell).decode() if isinstance(cell, (dict, list, bool)) else cell for cell in cells
    )
    return line.getvalue().encode()


def psql_seconds(url: str, table_rows: Path, twin: LiteralString) -> float:
    """How long psql takes to copy the rows into a fresh twin."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(twin)
    command = [str(shutil.which("psql")), url, "-qc", f"\\copy twin from '{table_rows}'"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


async def job_seconds(pool: Pool, executor: Executor, case: str) -> tuple[float, Job]:
    """How long a job takes to import the file that is stored under its case's name."""
    resource, table = "articles", None
    if case.startswith("own"):
        resource, table = ("parts", "shop.part") if case in BY_REFERENCE else ("items", "shop.item")
    on_conflict = OnConflict.UPDATE if case.endswith("update") else OnConflict.ERROR
    options = ImportOptions(on_conflict, records_at="data" if case.endswith("nested") else None)
    new = NewJob(
        id=new_job_id(),
        kind=Kind.IMPORT,
        owner_id=None,
        resource=resource,
        format="csv" if case.endswith("csv") else "json" if case.removeprefix("own-") in ENVELOPES else "ndjson",
        options=job_options(options, "admin") | ({} if table is None else {TABLE: table}),
        source=ImportSource(case).as_json(),
    )
    async with pool.connection() as connection, connection.transaction():
        await ledger.create(connection, new)
    begun = time.perf_counter()
    await executor.execute(new.id)
    seconds = time.perf_counter() - begun
    async with pool.connection() as connection:
        job = await ledger.get(connection, new.id)
    assert job is not None
    assert job.status is (Status.PARTIAL if case.endswith("bad") else Status.SUCCEEDED), job
    return seconds, job


def prepare(url: str, rows: int, folder: Path) -> Path:
    """Authors, and the rows of the clean case as psql reads them."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("truncate wherry.users, wherry.articles, wherry.comments restart identity cascade")
        connection.execute(
            "insert into wherry.users (email, username, name) "
            "select n || '@example.org', 'user' || n, 'User ' || n from generate_series(1, %s) as n",
            [AUTHORS],
        )
        connection.execute("truncate shop.maker cascade")
        connection.execute(
            "insert into shop.maker select n, 'maker' || n || '@example.org' from generate_series(0, %s) as n", [rows]
        )
        connection.execute("analyze shop.maker")
    path = folder / "rows.txt"
    job_id, now = new_job_id(), "2024-01-01 00:00:00+00"
    with path.open("w") as file:
        for number in range(rows):
            record = msgspec.json.decode(article(number, broken=False))
            cells = (
                number + 1,
                record["slug"],
                record["title"],
                record["body"],
                record["title"],
                record["author_id"],
                "{" + ",".join(record["tags"]) + "}",
                record["status"],
                record["published_at"],
                now,
                now,
                job_id,
            )
            file.write("\t".join(str(cell) for cell in cells) + "\n")
    with (folder / "items.txt").open("w") as file:
        for number in range(rows):
            record = msgspec.json.decode(item(number, broken=False))
            cells = [
                msgspec.json.encode(value).decode() if isinstance(value, dict) else value for value in record.values()
            ]
            file.write("\t".join(str(cell) for cell in cells) + "\n")
    return path


async def measure(url: str, rows: int, folder: Path, asked: argparse.Namespace) -> None:
    """Every case with so many rows."""
    settings = load_settings(
        database_url=url, import_batch_size=asked.batch, import_max_records=rows, import_max_file_size=1 << 40
    )
    store = Store(str(folder / "store"))
    table_rows = await asyncio.to_thread(prepare, url, rows, folder)
    for case in asked.cases:
        await asyncio.to_thread(write_source, case, rows, folder / "store" / case)
    async with make_pool(url, name="benchmark", max_size=4) as pool:
        executor = Executor(pool, {Kind.IMPORT: ImportRunner(pool, Tables(pool, OWN), store, settings)})
        for case in asked.cases:
            ours, theirs = [], []
            for _ in range(asked.runs):
                source = (folder / "items.txt", OWN_TWIN) if case.startswith("own") else (table_rows, TWIN)
                theirs.append(await asyncio.to_thread(psql_seconds, url, *source))
                async with pool.connection() as connection:
                    await connection.execute("drop table twin")
                    if not case.endswith("update"):
                        await connection.execute("truncate wherry.articles, wherry.comments, shop.item, shop.part")
                    await connection.execute("checkpoint")
                reset_peak()
                seconds, _job = await job_seconds(pool, executor, case)
                ours.append(seconds)
            mine, psql = statistics.median(ours), statistics.median(theirs)
            speeds = f"{rows / mine:10,.0f} {rows / psql:12,.0f} {psql / mine:7.2f}"
            print(f"{case:10} {rows:10,} {speeds} {peak_megabytes():6d}", flush=True)
    for case in asked.cases:
        (folder / "store" / case).unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, default=5000, help="IMPORT_BATCH_SIZE")
    parser.add_argument("--runs", type=int, default=1, help="of each case; the median counts")
    asked = parser.parse_args()
    structlog.configure(processors=[_drop])
    collect_garbage_less_often()
    share_threads_fairly()
    print(f"{'case':10} {'rows':>10} {'rows/s':>10} {'psql rows/s':>12} {'ratio':>7} {'RSS MB':>6}", flush=True)
    with temporary_folder("wherry-benchmark-") as folder, EmbeddedPostgres(folder / "postgres") as server:
        asyncio.run(migrations.migrate(server.url))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(OWN_TABLE)
        for rows in asked.rows:
            for path in _work_folder():
                asyncio.run(measure(server.url, rows, path, asked))


def _work_folder() -> Iterator[Path]:
    with temporary_folder("wherry-benchmark-files-") as folder:
        yield folder


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
