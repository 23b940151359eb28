"""The part of `wherry demo` with a schema that wherry has never seen: made with plain SQL, and declared in a few lines.

Prices have a key of two columns, an enum, jsonb, a CHECK and a foreign key to suppliers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from wherry.cli.demo_data import WORDS, Breakage, Record, Sample, spoiled_json, valid_index
from wherry.cli.demo_jobs import Jobs
from wherry.database.pools import connect
from wherry.tables.adoption import add_to_file, propose
from wherry.tables.declarations import Declarations

PATTERN = "demo_shop.*"
SUPPLIERS = 200
CREATE = """
create schema demo_shop;
create type demo_shop.state as enum ('draft', 'live', 'sold out');
create table demo_shop.supplier (
  id bigint generated always as identity primary key,
  email text not null unique
);
create table demo_shop.price (
  warehouse text,
  sku text,
  amount numeric(12, 2) not null constraint amount_not_negative check (amount >= 0),
  state demo_shop.state not null default 'draft',
  tags jsonb,
  supplier_id bigint references demo_shop.supplier,
  primary key (warehouse, sku)
);
comment on constraint amount_not_negative on demo_shop.price is 'An amount must not be negative.';
"""
WIPE = "truncate demo_shop.supplier, demo_shop.price"
DROP = "drop schema demo_shop cascade"


async def run_sql(database_url: str, statements: str) -> None:
    """Run SQL as the owner of the shop would, without wherry."""
    async with await connect(database_url, name="wherry demo") as connection, connection.transaction():
        await connection.execute(statements.encode())


async def declare(database_url: str, path: Path) -> list[str]:
    """What `wherry tables add 'demo_shop.*'` does. Returns the lines of the file that it wrote."""
    async with await connect(database_url, name="wherry demo") as connection:
        found = await propose(connection, PATTERN, Declarations())
    add_to_file(path, found.tables)
    return (await asyncio.to_thread(path.read_text, "utf-8")).splitlines()


async def move_shop(jobs: Jobs, database_url: str, prices: int, folder: Path) -> None:
    """Import the shop, export it, wipe it, import the exports, and export it again: the same bytes."""
    samples = [_suppliers(), _prices(prices)]
    for sample in samples:
        await jobs.import_sample(sample)
    first = await _export(jobs, samples, folder, "export")
    await run_sql(database_url, WIPE)
    for sample in samples:
        name = sample.resource
        done = await jobs.import_file(name, folder / f"export {name}", f"restore wiped {name}")
        expected = (sample.total - sample.broken, 0)
        jobs.report.expect(f"{name}: the wipe lost nothing", (done["successCount"], done["errorCount"]), expected)
    second = await _export(jobs, samples, folder, "export again")
    jobs.report.expect("the shop's second exports are identical, byte for byte", second, first)


async def _export(jobs: Jobs, samples: list[Sample], folder: Path, what: str) -> list[str]:
    """Export each table; returns the digests of the files."""
    names = {sample.resource: f"{what} {sample.resource}" for sample in samples}
    return [(await jobs.export(resource, folder / name, name))["sha256"] for resource, name in names.items()]


def _suppliers() -> Sample:
    def record(index: int) -> Record:
        return {"id": index + 1, "email": f"supplier{index + 1}@example.com"}

    return Sample("supplier", SUPPLIERS, record, (("MISSING_REQUIRED_FIELD", _without_email),))


def _prices(count: int) -> Sample:
    def record(index: int) -> Record:
        return {
            "warehouse": WORDS[index % len(WORDS)],
            "sku": f"SKU-{index}",
            "amount": f"{index % 1000}.{index % 100:02d}",
            "state": ("draft", "live", "sold out")[index % 3],
            "tags": {"colour": WORDS[index // 7 % len(WORDS)], "sizes": [index % 9, index % 5]},
            "supplier_id": 1 + valid_index(index, SUPPLIERS),
        }

    return Sample("price", count, record, (("PARSE_ERROR", spoiled_json), *_BAD_PRICES))


_BAD_PRICES: tuple[Breakage, ...] = (
    ("INVALID_FIELD_FORMAT", lambda record: record | {"amount": -1}),
    ("INVALID_ENUM_VALUE", lambda record: record | {"state": "stolen"}),
    ("INVALID_REFERENCE", lambda record: record | {"supplier_id": 2_000_000_000}),
    ("DUPLICATE_VALUE", lambda record: record | {"warehouse": WORDS[0], "sku": "SKU-0"}),
)


def _without_email(record: Record) -> Record:
    return {"id": record["id"]}
