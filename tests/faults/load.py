"""Imports to disturb, and checks of their results: into a built-in table, and into tables of the user's own.

The files are ndjson, csv with line ends in quotes, and records within a JSON document.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.processes import import_file

ENDED = ("succeeded", "partial", "failed", "cancelled")
POLL_SECONDS = 0.2
AUTHOR = 1
TEXT = "salt and timber " * 20
BROKEN_EVERY = 50

SHOP = """
create schema shop;
create type shop.state as enum ('draft', 'live');
create table shop.supplier (id int primary key);
insert into shop.supplier select generate_series(1, 10);
create table shop.price (
  tenant int,
  sku text,
  amount numeric(12, 2) not null constraint amount_not_negative check (amount >= 0),
  state shop.state not null default 'draft',
  meta jsonb,
  supplier_id int references shop.supplier,
  number bigint generated always as identity unique,
  primary key (tenant, sku)
);
create table shop.event (job int, n int, note text);
insert into shop.price (tenant, sku, amount)
select -job, 'S-' || n, 7777 from generate_series(1, 100) as job, generate_series(0, 998, 2) as n;
"""
TABLES = '[tables]\nprices = "shop.price"\nevents = "shop.event"\n'

Record = dict[str, Any]


def _lines(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _cells(records: list[Record]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(records[0])
    for record in records:
        writer.writerow(json.dumps(cell, indent=1) if isinstance(cell, dict) else cell for cell in record.values())
    return file.getvalue().encode()


def _document(records: list[Record]) -> bytes:
    return json.dumps({"count": len(records), "data": records}).encode()


@dataclass(frozen=True, eq=False)
class Load:
    """A kind of import.

    Attributes:
        resource: the table.
        record: the record with this number of this many, of the import with this number.
        is_refused: whether that record is refused: by its number and how many there are.
        written: counts the rows that an import wrote, by its `number`.
        options: of the request.
        file: the name of the file, which says its format, and its content.
    """

    resource: str
    record: Callable[[int, int, int], Record]
    is_refused: Callable[[int, int], bool]
    written: str
    options: Mapping[str, str] = field(default_factory=dict)
    file: tuple[str, Callable[[list[Record]], bytes]] = ("records.ndjson", _lines)

    def content(self, job: int, count: int) -> bytes:
        """So many records as a file."""
        return self.file[1]([self.record(job, n, count) for n in range(count)])

    def refused(self, count: int) -> int:
        """How many of so many records are refused."""
        return sum(self.is_refused(n, count) for n in range(count))


def _article(job: int, n: int, count: int) -> Record:
    """Without an id, so that an article that is written twice is a second row or an error."""
    return {"slug": f"job-{job}-{n}", "title": f"Article {n}", "body": TEXT, "author_id": AUTHOR}


BREAKAGES: Sequence[Record] = ({"amount": -1}, {"state": "sold"}, {"supplier_id": 99}, {"amount": None})


def _is_broken(n: int) -> bool:
    return n % BROKEN_EVERY == BROKEN_EVERY - 1


def _price(tenant: int, n: int, amount: float) -> Record:
    """A price; one in fifty breaks a rule of the table."""
    meta = {"n": n, "text": TEXT}
    record = {"tenant": tenant, "sku": f"S-{n}", "amount": amount, "state": "live", "meta": meta}
    record["supplier_id"] = n % 10 + 1
    return {**record, **(BREAKAGES[n // BROKEN_EVERY % len(BREAKAGES)] if _is_broken(n) else {})}


def _keys(count: int) -> int:
    """How many keys a file of prices with duplicates has: its last fifth has those of its first records again."""
    return count - count // 5


def _changed_price(job: int, n: int, count: int) -> Record:
    keys = _keys(count)
    return _price(-job, n, n % 1000) if n < keys else _price(-job, n - keys, 5000)


ARTICLES = Load(
    "articles",
    _article,
    lambda n, count: False,
    "select count(*) from wherry.articles where slug like 'job-' || %(number)s || '-%%'",
)
PRICES = Load(
    "prices",
    lambda job, n, count: _price(job, n, n % 1000),
    lambda n, count: _is_broken(n),
    "select count(*) from shop.price where tenant = %(number)s and number is not null and 'S-' || (meta ->> 'n') = sku",
    file=("records.csv", _cells),
)
# Updates rows and creates others. A row keeps what its first record says, whoever handles the second.
CHANGED_PRICES = Load(
    "prices",
    _changed_price,
    lambda n, count: n >= _keys(count) or _is_broken(n),
    "select count(*) from shop.price where tenant = -%(number)s and amount = (meta ->> 'n')::int %% 1000",
    {"onConflict": "update"},
)
# This table has no key: a record that is written twice is a second row.
EVENTS = Load(
    "events",
    lambda job, n, count: {"job": job, "n": f"{n}" if not _is_broken(n) else "much", "note": TEXT},
    lambda n, count: _is_broken(n),
    "select count(*) from shop.event where job = %(number)s",
    {"recordsAt": "data"},
    ("records.json", _document),
)
LOADS = (ARTICLES, PRICES, CHANGED_PRICES, EVENTS)


def make_shop(url: str, folder: Path) -> dict[str, str]:
    """Create the tables of the user's own; returns the setting that declares them."""
    with psycopg.connect(url) as connection:
        connection.execute(SHOP)
    path = folder / "tables.toml"
    path.write_text(TABLES)
    return {"TABLES_FILE": str(path)}


@dataclass(frozen=True)
class Import:
    """An import that was submitted."""

    id: str
    number: int
    load: Load
    records: int


@dataclass
class Outcome:
    """An import, and what it left in the tables."""

    source: Import
    job: dict[str, Any]
    rows: int
    errors: int

    @property
    def is_exact(self) -> bool:
        """Whether the counters agree with the tables."""
        counted = (self.job["successCount"], self.job["errorCount"], self.job["processedRecords"])
        return counted == (self.rows, self.errors, self.rows + self.errors)

    @property
    def is_complete(self) -> bool:
        """Whether every record was written or refused as it should be."""
        refused = self.source.load.refused(self.source.records)
        status = "partial" if refused else "succeeded"
        found = (self.job["status"], self.rows, self.errors)
        return found == (status, self.source.records - refused, refused) and self.is_exact


def submit_one(client: httpx.Client, number: int, records: int) -> Import:
    """Submit an import, whose number says of which kind it is."""
    load = LOADS[number % len(LOADS)]
    content = load.content(number, records)
    job = import_file(client, load.resource, content, key=f"load-{number}", name=load.file[0], **load.options)
    return Import(job["id"], number, load, records)


def submit(client: httpx.Client, first: int, jobs: int, records: int) -> list[Import]:
    """Submit imports of each kind in turn, numbered from `first`."""
    return [submit_one(client, number, records) for number in range(first, first + jobs)]


def state(client: httpx.Client, job: Import) -> dict[str, Any]:
    """The job as it is now."""
    return dict(client.get(f"/api/v1/imports/{job.id}").raise_for_status().json()["importJob"])


def all_ended(client: httpx.Client, jobs: Sequence[Import]) -> bool:
    """Whether all of them have ended."""
    return all(state(client, job)["status"] in ENDED for job in jobs)


def wait_for_end(client: httpx.Client, jobs: Sequence[Import], seconds: float) -> None:
    """Wait until all have ended. The API may fail now and then, while its database is down."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if all_ended(client, jobs):
                return
        except httpx.HTTPError:
            pass  # asked again until the deadline, which then says so
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"not all of {len(jobs)} jobs ended within {seconds} s")


def unfinished(database_url: str) -> int:
    """How many jobs have not ended, according to the database."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select count(*) from wherry.jobs where completed_at is null").fetchone()
    assert row is not None
    return int(row[0])


def progress(database_url: str) -> int:
    """How many records all jobs have processed."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select coalesce(sum(processed_records), 0) from wherry.jobs").fetchone()
    assert row is not None
    return int(row[0])


def outcomes(client: httpx.Client, database_url: str, jobs: Sequence[Import]) -> list[Outcome]:
    """The result of each job."""
    found = []
    with psycopg.connect(database_url) as connection:
        for job in jobs:
            rows = connection.execute(job.load.written, {"number": job.number}).fetchone()
            errors = connection.execute(
                "select count(distinct record_index) from wherry.import_errors where job_id = %s and record_index >= 0",
                [job.id],
            ).fetchone()
            assert rows is not None
            assert errors is not None
            found.append(Outcome(job, state(client, job), rows[0], errors[0]))
    return found


def interrupted(database_url: str, jobs: Sequence[Import]) -> set[Load]:
    """The kinds of imports of which at least one was taken over by another worker."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select id::text from wherry.jobs where epoch > 1").fetchall()
    taken_over = {id_ for (id_,) in rows}
    return {job.load for job in jobs if job.id in taken_over}
