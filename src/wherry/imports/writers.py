"""Commits the batches of an import in one of two ways, each of which is a context manager.

- `batch_by_batch`: each batch is one transaction (rows, errors, counters, checkpoint). A crash loses the current batch.
- `all_or_nothing`, for `atomic` and `dryRun`: all rows are one transaction. Errors and progress are committed on a
  second connection in the meantime. A crash loses everything.

A batch that the database refuses is tried again, because it may have collided with another transaction, or may have
been wrongly assumed to be all new. If it is refused again, it is split in half, down to the faulty record. A record
that only ever loses to other transactions is not faulty: the job is released, and continues from its checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import psycopg

from wherry.accounts.authority import Authority, read_role
from wherry.database.pools import ABANDONED_SECONDS, Connection, Pool
from wherry.database.queries import load
from wherry.errors import ErrorCode, JobFailed, JobReleased
from wherry.imports.bookkeeping import Bookkeeper, ReportState
from wherry.imports.ids import IdReservation, reserve_ids
from wherry.imports.merge import RACES, REFUSALS, Merger, Tally, is_id_clash, refusal, session_name
from wherry.imports.models import Batch, ImportOptions, Place
from wherry.imports.plan import Rules
from wherry.imports.source import ReadingProgress
from wherry.jobs import ledger
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance, Job
from wherry.jobs.runs import Run
from wherry.resources.model import Resource

Merge: TypeAlias = Callable[[Connection, Batch], Awaitable[Tally]]
"""`Merger.write` or `Merger.write_again`."""


@dataclass(frozen=True)
class ImportTask:
    """One run of an import: what to write where, and how many records and bytes of errors there may be."""

    run: Run
    resource: Resource
    options: ImportOptions
    authority: Authority
    max_records: int
    max_error_bytes: int

    @property
    def place(self) -> Place:
        """Where to start reading: after the last committed batch, or at the beginning if nothing was committed."""
        return Place() if self.options.one_transaction else Place.of(self.run.job.checkpoint)


class Writer(ABC):
    """Writes batches in order, and reports the records that the database refuses.

    Args:
        attempts: how often a batch is tried before it is split.
    """

    def __init__(self, task: ImportTask, books: Bookkeeper, ids: IdReservation, *, attempts: int) -> None:
        self._task = task
        self._books = books
        self._ids = ids
        merger = Merger(task.resource, task.run.job.id, Rules(task.options.on_conflict, task.authority))
        self._attempts: tuple[Merge, ...] = (merger.write, *[merger.write_again] * (attempts - 1))

    @property
    def position(self) -> Position:
        """The counters as of the last commit."""
        return self._books.position

    async def write(self, batch: Batch, progress: ReadingProgress) -> None:
        """Commit a batch.

        Raises:
            LeaseLost, JobCancelled: see `Run`.
            JobReleased: the worker is stopping, or other transactions kept interfering.
            JobFailed: the import's owner has lost the role that it needs.
        """
        refused = await self._try_to_commit(batch, progress)
        if refused is None:
            return
        if len(batch) > 1:
            middle = len(batch) // 2
            await self.write(batch[:middle], progress)
            await self.write(batch[middle:], progress)
            return
        (entry,) = batch
        if isinstance(refused, RACES) or is_id_clash(self._task.resource, entry, refused):
            raise JobReleased(f"job {self._task.run.job.id} kept losing to other transactions") from refused
        errors = (refusal(self._task.resource, entry, refused),)
        faulty = msgspec.structs.replace(entry, record=None, errors=errors)
        await self._commit_batch([faulty], progress, self._attempts[0])

    async def report_file(self, failure: JobFailed) -> None:
        """Report a fault of the file as a whole."""
        await self._books.report_file(failure)

    async def _try_to_commit(self, batch: Batch, progress: ReadingProgress) -> psycopg.Error | None:
        """Commit a batch, or return the reason why the database refuses it."""
        refused: psycopg.Error | None = None
        for merge in self._attempts:
            try:
                await self._commit_batch(batch, progress, merge)
                return None
            except (*REFUSALS, *RACES) as error:
                refused = error
        return refused

    async def _commit_batch(self, batch: Batch, progress: ReadingProgress, merge: Merge) -> None:
        room = min(self._task.max_records, progress.most_records_after(batch[-1].offset))
        await self._ids.cover(self._books.connection, batch, room)
        await self._write_and_count(batch, progress.percent, merge)
        self._task.run.check(self.position)

    @abstractmethod
    async def _write_and_count(self, batch: Batch, percent: float, merge: Merge) -> None:
        """Write the rows with `merge`, and record the result."""


@asynccontextmanager
async def batch_by_batch(pool: Pool, task: ImportTask) -> AsyncIterator[Writer]:
    """A writer that commits each batch on its own."""
    run, job = task.run, task.run.job
    position, report = Position(False, job.success_count, job.error_count), ReportState.of(job.checkpoint)
    async with reserve_ids(pool, task.resource, run.lease) as ids, pool.connection() as connection:
        async with connection.transaction():
            await _end_predecessors(connection, run)
        books = Bookkeeper(run, connection, task.max_error_bytes, position=position, report=report)
        yield _BatchWriter(task, books, ids, attempts=3)


class _BatchWriter(Writer):
    async def _write_and_count(self, batch: Batch, percent: float, merge: Merge) -> None:
        async with self._books.transaction() as connection:
            tally = await merge(connection, batch)
            await self._books.count(batch, tally, tally.successes, percent)
        self._ids.use(tally.highest_id)


@asynccontextmanager
async def all_or_nothing(pool: Pool, task: ImportTask) -> AsyncIterator[Writer]:
    """A writer whose rows are committed when the context ends, or rolled back if it fails or is a dry run.

    Raises:
        JobFailed: at the end, if `atomic` is set and some records have errors, or the owner has lost the role.
    """
    dry_run = task.options.dry_run
    async with (
        reserve_ids(pool, task.resource, task.run.lease) as ids,
        pool.connection() as reporting,
        pool.connection() as main,
    ):
        async with reporting.transaction():
            await _end_predecessors(reporting, task.run)
            await ledger.restart(reporting, task.run.lease)
            await reporting.execute(load("imports")["delete_errors"], {"job_id": task.run.job.id})
        async with main.transaction(force_rollback=dry_run):
            await main.execute(load("imports")["allow_idle"], {"name": session_name(task.run.job.id)})
            books = Bookkeeper(
                task.run, reporting, task.max_error_bytes, position=Position(False, 0, 0), report=ReportState()
            )
            writer = _WholeWriter(task, books, ids, main)
            yield writer
            if task.options.atomic:
                await writer.count_all()


def is_committed(job: Job) -> bool:
    """Whether an earlier run committed all rows in one transaction, and died before the job ended."""
    return bool((job.checkpoint or {}).get("committed"))


class _WholeWriter(Writer):
    def __init__(self, task: ImportTask, books: Bookkeeper, ids: IdReservation, main: Connection) -> None:
        super().__init__(task, books, ids, attempts=2)
        self._main = main
        self._has_turn = False
        self._end = Place()
        self._successes = 0
        self._highest_id = 0

    async def count_all(self) -> None:
        """Count all rows in the transaction that commits them; a dry run's are rolled back, and counted separately.

        Raises:
            JobFailed: some records have errors, or the owner has lost the role.
        """
        if self.position.error_count:
            await self._fail()
        dry_run, authority = self._task.options.dry_run, self._task.authority
        authority.require(await read_role(self._main, authority.owner_id))
        connection = self._books.connection if dry_run else self._main
        await self._main.execute(load("imports")["limit_idle"], {"limit": f"{ABANDONED_SECONDS}s"})
        async with connection.transaction():
            checkpoint = {**self._books.report.checkpoint_at(self._end), "committed": not dry_run}
            step = Advance(successes=self._successes, checkpoint=checkpoint)
            self._books.position = await self._task.run.advance_within(connection, step)
            self._task.run.require_wanted(self.position)
        if not dry_run:
            self._ids.use(self._highest_id)

    async def _fail(self) -> None:
        errors = self.position.error_count
        total = errors + self._successes
        async with self._books.transaction() as connection:
            await self._task.run.advance_within(connection, Advance(total_records=total, progress=100))
        message = f"{errors} of {total} records have errors; nothing was written, because `atomic` was set"
        raise JobFailed(ErrorCode.BATCH_FAILED, message, detail={"errors": errors})

    async def _commit_batch(self, batch: Batch, progress: ReadingProgress, merge: Merge) -> None:
        try:
            if not self._has_turn:  # other all-or-nothing imports of the resource keep their rows locked until they end
                await self._main.execute(load("imports")["lock_whole"], {"table": self._task.resource.name})
                self._has_turn = True
            await super()._commit_batch(batch, progress, merge)
        except RACES as error:  # retrying is pointless: the locks of earlier batches are kept
            raise JobReleased(f"job {self._task.run.job.id} is in a deadlock with other transactions") from error

    async def _write_and_count(self, batch: Batch, percent: float, merge: Merge) -> None:
        async with self._main.transaction():
            tally = await merge(self._main, batch)
        # Rows that will be committed at the end are counted at the end.
        successes = 0 if self._task.options.atomic else tally.successes
        async with self._books.transaction():
            await self._books.count(batch, tally, successes, percent)
        self._successes += tally.successes
        self._highest_id = max(self._highest_id, tally.highest_id)
        self._end = Place.after(batch)


async def _end_predecessors(connection: Connection, run: Run) -> None:
    """Inside a transaction, end the database sessions of earlier runs of this job, but never of a later run."""
    await ledger.hold(connection, run.lease)
    await connection.execute(load("imports")["end_predecessors"], {"name": session_name(run.job.id)})
