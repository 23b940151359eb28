"""Commits the batches of an import in one of two ways, each of which is a context manager.

- `batch_by_batch`: each batch is one transaction (rows, errors, counters, checkpoint). A crash loses the current batch.
- `all_or_nothing`, for `atomic` and `dryRun`: all rows are one transaction. Errors and progress are committed on a
  second connection in the meantime. A crash loses everything.

A batch that the database refuses is tried again with more care: it may have collided with another transaction, or may
have been wrongly assumed to be all new. If it is still refused, it is split in half, down to the faulty record. A
record that only ever loses to other transactions is not faulty: the job is released, and continues from its checkpoint.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from operator import attrgetter

import msgspec
import psycopg

from wherry.accounts.authority import Authority, read_role
from wherry.database.pools import ABANDONED_SECONDS, Connection, Pool
from wherry.database.queries import fetch_all, fetch_one, load
from wherry.errors import ErrorCode, JobFailed, JobReleased
from wherry.imports.batches import BATCH_BYTES
from wherry.imports.bookkeeping import SINCE, Bookkeeper, ReportState
from wherry.imports.ids import IdReservation, reserve_ids
from wherry.imports.judge import RACES, REFUSALS, is_refusal, refusal
from wherry.imports.merge import UTMOST_CARE, Care, Merger, Tally, session_name
from wherry.imports.models import Batch, DecodedRecord, ImportOptions, Place, RawRecord
from wherry.imports.plan import Rules, have_keys_in_common
from wherry.imports.source import ReadingProgress
from wherry.imports.tokens import value_of
from wherry.jobs import ledger
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance, Job
from wherry.jobs.runs import Run
from wherry.tables.model import Table


@dataclass(frozen=True)
class ImportTask:
    """One run of an import: what to write where, and how many records and bytes of errors there may be."""

    run: Run
    table: Table
    options: ImportOptions
    authority: Authority
    batch_size: int
    max_records: int
    max_error_bytes: int

    @property
    def place(self) -> Place:
        """Where to start reading: after the last committed batch, or at the beginning if nothing was committed."""
        return Place() if self.options.one_transaction else Place.of(self.run.job.checkpoint)


class AtEnd(Enum):
    """What happens, at the end of the file, to a record that refers to a row of its own table that does not exist."""

    POSTPONED = auto()
    REFUSED = auto()


class Writer(ABC):
    """Writes batches in order, and reports the records that the database refuses.

    Args:
        races: how often a batch that loses to other transactions is tried again.
    """

    def __init__(self, task: ImportTask, books: Bookkeeper, ids: IdReservation, *, races: int) -> None:
        self._task = task
        self._books = books
        self._ids = ids
        self._races = races
        since = None if task.options.one_transaction else (task.run.job.checkpoint or {}).get(SINCE)
        self._merger = Merger(task.table, task.run.job.id, Rules(task.options.on_conflict, task.authority), since)
        self._place = task.place  # where to resume: after what was read of the file
        self._end: AtEnd | None = None

    @property
    def position(self) -> Position:
        """The counters as of the last commit."""
        return self._books.position

    async def write(self, batch: Batch, progress: ReadingProgress) -> None:
        """Commit a batch.

        Raises:
            LeaseLost, JobCancelled: see `Run`.
            JobReleased: the worker is stopping, or other transactions kept interfering.
            JobFailed: the import's owner has lost the role that it needs, or too many records have errors.
        """
        self._require_few_errors()
        await self._write(batch, progress, self._merger.care)
        self._require_few_errors()

    def _require_few_errors(self) -> None:
        most = self._task.options.max_errors
        if most is not None and self.position.error_count > most:
            message = f"More than {most} records have errors (maxErrors); the rest of the file was not read"
            raise JobFailed(ErrorCode.BATCH_FAILED, message, detail={"limit": most})

    async def write_postponed(self, decode: Callable[[RawRecord], DecodedRecord], progress: ReadingProgress) -> None:
        """At the end of the file, commit the records that were postponed, as often as that makes others possible.

        Raises:
            LeaseLost, JobCancelled, JobReleased, JobFailed: see `write`.
        """
        self._require_few_errors()
        if not self._task.table.refers_to_itself:
            return
        self._end = AtEnd.POSTPONED
        backwards = False
        while waiting := await self._count_postponed():
            place = sys.maxsize if backwards else -1
            while raws := await self._postponed(place, backwards=backwards):
                place = raws[-1].index
                batch = [decode(raw) for raw in sorted(raws, key=attrgetter("index"))]
                # Rows with different columns are written one after the other: the last of a chain has to come first.
                if backwards and not have_keys_in_common(self._task.table, batch):
                    batch.reverse()
                await self.write(batch, progress)
            if await self._count_postponed() == waiting:
                self._end = AtEnd.REFUSED
            backwards = not backwards  # a chain of references may lead in either direction

    async def _count_postponed(self) -> int:
        query, values = load("imports")["count_postponed"], {"job_id": self._task.run.job.id}
        row = await fetch_one(self._rows_connection, query, values)
        assert row is not None
        return int(row["count"])

    async def _postponed(self, place: int, *, backwards: bool) -> list[RawRecord]:
        """The next ones after the index `place`, or before it."""
        values = {
            "job_id": self._task.run.job.id,
            "place": place,
            "limit": self._task.batch_size,
            "bytes": BATCH_BYTES,
        }
        rows = await fetch_all(
            self._rows_connection, load("imports")["postponed_before" if backwards else "postponed_after"], values
        )
        return [RawRecord(row["record_index"], row["byte_offset"], row["data"], len(row["data"])) for row in rows]

    async def _merge(self, connection: Connection, batch: Batch, care: Care) -> Tally:
        """Write the rows of a batch, and keep what has to be postponed."""
        job_id = self._task.run.job.id
        tally = await self._merger.write(connection, batch, care, is_last=self._end is AtEnd.REFUSED)
        if self._end is not None:
            waiting = {entry.index for entry in tally.postponed}
            indexes = [entry.index for entry in batch if entry.index not in waiting]
            await connection.execute(load("imports")["take_postponed"], {"job_id": job_id, "indexes": indexes})
        elif tally.postponed:
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    load("imports")["postpone"],
                    [
                        {"job_id": job_id, "index": entry.index, "offset": entry.offset, "data": entry.text}
                        for entry in tally.postponed
                    ],
                )
        return tally

    def _place_after(self, batch: Batch) -> Place:
        return Place.after(batch) if self._end is None else self._place

    async def _write(self, batch: Batch, progress: ReadingProgress, care: Care) -> None:
        refused = await self._try_to_commit(batch, progress, care)
        if refused is None:
            return
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle], progress, UTMOST_CARE)
            await self._write(batch[middle:], progress, UTMOST_CARE)
            return
        (entry,) = batch
        if isinstance(refused, RACES) or self._is_id_clash(entry, refused):
            raise JobReleased(f"job {self._task.run.job.id} kept losing to other transactions") from refused
        errors = (refusal(self._task.table, entry, refused),)
        faulty = msgspec.structs.replace(entry, record=None, errors=errors)
        await self._commit_batch([faulty], progress, Care())

    def _is_id_clash(self, entry: DecodedRecord, error: psycopg.Error) -> bool:
        """Whether another transaction has taken the id that the sequence gave this record, which is not at fault."""
        broken = next((each for each in self._task.table.uniques if each.name == error.diag.constraint_name), None)
        return broken is not None and all(
            self._task.table.columns[name].sequence and value_of(self._task.table, entry, name) is None
            for name in broken.fields
        )

    def encode_ahead(self, batch: Batch) -> None:
        """Prepare the batch that is written next, in another thread."""
        self._merger.encode_ahead(batch)

    async def forget(self, connection: Connection) -> None:
        """Delete what only later records of the import would need."""
        await self._merger.forget(connection)

    async def report_file(self, failure: JobFailed) -> None:
        """Report a fault of the file as a whole."""
        await self._books.report_file(failure)

    async def _try_to_commit(self, batch: Batch, progress: ReadingProgress, care: Care) -> psycopg.Error | None:
        """Commit a batch with as much care as it takes, or return the reason why the database refuses it."""
        races = self._races
        while True:
            try:
                await self._commit_batch(batch, progress, care)
                return None
            except REFUSALS as error:
                if not is_refusal(self._task.table, error):
                    raise
                more = care.after(error)
                if more is None:
                    return error
                care = more
            except psycopg.ProgrammingError:
                # Reading a value can fail as if the statement were wrong: a tsquery's or a regclass's, for example.
                if care.judges or not self._merger.may_doubt:
                    raise
                care = replace(care, judges=True)
            except RACES as error:
                races -= 1
                if not races:
                    return error
                care = replace(care, looks_up=True, updates=False)

    async def _commit_batch(self, batch: Batch, progress: ReadingProgress, care: Care) -> None:
        room = min(self._task.max_records, progress.most_records_after(batch[-1].offset))
        await self._ids.cover(self._books.connection, batch, room)
        await self._write_and_count(batch, progress.percent, care)
        self._place = self._place_after(batch)
        self._task.run.check(self.position)

    @property
    @abstractmethod
    def _rows_connection(self) -> Connection:
        """The connection whose transactions write rows."""

    @abstractmethod
    async def _write_and_count(self, batch: Batch, percent: float, care: Care) -> None:
        """Write the rows, and record the result."""


@asynccontextmanager
async def batch_by_batch(pool: Pool, task: ImportTask) -> AsyncIterator[Writer]:
    """A writer that commits each batch on its own."""
    run, job = task.run, task.run.job
    position, report = Position(False, job.success_count, job.error_count), ReportState.of(job.checkpoint)
    async with reserve_ids(pool, task.table, run.lease) as ids, pool.connection() as connection:
        if run.has_predecessors:
            async with connection.transaction():
                await _end_predecessors(connection, run)
        books = Bookkeeper(run, connection, task.max_error_bytes, position=position, report=report)
        writer = _BatchWriter(task, books, ids, races=3)
        yield writer
        await writer.forget(connection)  # but not if the job fails or is cancelled, because it may be retried


class _BatchWriter(Writer):
    @property
    def _rows_connection(self) -> Connection:
        return self._books.connection

    async def _write_and_count(self, batch: Batch, percent: float, care: Care) -> None:
        async with self._books.transaction() as connection:
            tally = await self._merge(connection, batch, care)
            await self._books.count(self._place_after(batch), self._merger.since, tally, tally.successes, percent)
        self._ids.use(tally.highest)


@asynccontextmanager
async def all_or_nothing(pool: Pool, task: ImportTask) -> AsyncIterator[Writer]:
    """A writer whose rows are committed when the context ends, or rolled back if it fails or is a dry run.

    Raises:
        JobFailed: at the end, if `atomic` is set and some records have errors, or the owner has lost the role.
    """
    dry_run = task.options.dry_run
    async with (
        reserve_ids(pool, task.table, task.run.lease) as ids,
        pool.connection() as reporting,
        pool.connection() as main,
    ):
        if task.run.has_predecessors:
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
        super().__init__(task, books, ids, races=2)
        self._main = main
        self._has_turn = False
        self._successes = 0
        self._highest: dict[str, int] = {}

    @property
    def _rows_connection(self) -> Connection:
        return self._main

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
        await self.forget(self._main)
        async with connection.transaction():
            checkpoint = {**self._books.report.checkpoint_at(self._place, self._merger.since), "committed": not dry_run}
            step = Advance(successes=self._successes, checkpoint=checkpoint)
            self._books.position = await self._task.run.advance_within(connection, step)
            self._task.run.require_wanted(self.position)
        if not dry_run:
            self._ids.use(self._highest)

    async def _fail(self) -> None:
        errors = self.position.error_count
        total = errors + self._successes
        async with self._books.transaction() as connection:
            await self._task.run.advance_within(connection, Advance(total_records=total, progress=100))
        message = f"{errors} of {total} records have errors; nothing was written, because `atomic` was set"
        raise JobFailed(ErrorCode.BATCH_FAILED, message, detail={"errors": errors})

    async def _commit_batch(self, batch: Batch, progress: ReadingProgress, care: Care) -> None:
        try:
            if not self._has_turn:  # other all-or-nothing imports of the resource keep their rows locked until they end
                await self._main.execute(load("imports")["lock_whole"], {"table": self._task.table.name})
                self._has_turn = True
            await super()._commit_batch(batch, progress, care)
        except RACES as error:  # retrying is pointless: the locks of earlier batches are kept
            raise JobReleased(f"job {self._task.run.job.id} is in a deadlock with other transactions") from error

    async def _write_and_count(self, batch: Batch, percent: float, care: Care) -> None:
        async with self._main.transaction():
            tally = await self._merge(self._main, batch, care)
            await self._main.execute("set constraints all immediate")  # COMMIT would be too late for an error
        # Rows that will be committed at the end are counted at the end.
        successes = 0 if self._task.options.atomic else tally.successes
        async with self._books.transaction():
            await self._books.count(self._place_after(batch), self._merger.since, tally, successes, percent)
        self._successes += tally.successes
        for name, highest in tally.highest.items():
            self._highest[name] = max(self._highest.get(name, 0), highest)


async def _end_predecessors(connection: Connection, run: Run) -> None:
    """Inside a transaction, end the database sessions of earlier runs of this job, but never of a later run."""
    await ledger.hold(connection, run.lease)
    await connection.execute(load("imports")["end_predecessors"], {"name": session_name(run.job.id)})
