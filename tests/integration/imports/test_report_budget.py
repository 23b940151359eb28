"""An import's error report stays within its budget, while every count stays exact."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import UNSET

from tests.integration.imports.harness import Bench, lines
from wherry.imports.bookkeeping import ROW_BYTES, Bookkeeper
from wherry.imports.models import ImportOptions
from wherry.imports.view import import_status

RECORDS = 1000
FAULTS = 2  # of `{}`: no name, and neither id nor e-mail
BUDGET = 50_000


async def report_rows(bench: Bench) -> tuple[int, int]:
    """The number of rows of the report, and the bytes of their texts."""
    query = (
        "select count(*) as rows, coalesce(sum(octet_length(message || name || field)), 0) as texts "
        "from wherry.import_errors"
    )
    (row,) = await bench.rows(query)
    return row["rows"], row["texts"]


@pytest.fixture
def frugal(bench: Bench) -> Bench:
    """Small batches, and a small report."""
    return bench.with_settings(import_max_error_bytes=BUDGET, import_batch_size=20)


@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True), ImportOptions(dry_run=True)], ids=str)
async def test_errors_past_the_budget_are_only_counted(frugal: Bench, options: ImportOptions) -> None:
    job = await frugal.run("users", b"{}\n" * RECORDS, options=options)
    rows, texts = await report_rows(frugal)
    assert BUDGET - 1000 < rows * ROW_BYTES + texts <= BUDGET
    assert job.error_count == RECORDS
    assert sum(job.error_summary.values()) == RECORDS * FAULTS
    assert import_status(job, frugal.settings).error_report_truncated is True


async def test_a_report_within_the_budget_is_complete(frugal: Bench) -> None:
    job = await frugal.run("users", b"{}\n" * 30)
    assert (await report_rows(frugal))[0] == 30 * FAULTS
    assert import_status(job, frugal.settings).error_report_truncated is UNSET


@pytest.mark.parametrize("committed", [1, 30], ids=["before the budget is used up", "after"])
@pytest.mark.parametrize("options", [ImportOptions(), ImportOptions(atomic=True)], ids=str)
async def test_a_run_that_takes_over_continues_with_the_same_budget(
    frugal: Bench, monkeypatch: pytest.MonkeyPatch, committed: int, options: ImportOptions
) -> None:
    job = await frugal.submit("users", lines([{}] * RECORDS), options=options)
    commits = 0
    count = Bookkeeper.count

    async def stop_after(self: Bookkeeper, *given: object) -> object:
        nonlocal commits
        if commits == committed:
            raise asyncio.CancelledError
        commits += 1
        return await count(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("wherry.imports.bookkeeping.Bookkeeper.count", stop_after)
        await frugal.execute(job)
    ended = await frugal.execute(job)
    rows, texts = await report_rows(frugal)
    assert BUDGET - 1000 < rows * ROW_BYTES + texts <= BUDGET
    assert ended.error_count == RECORDS
    assert sum(ended.error_summary.values()) == RECORDS * FAULTS
