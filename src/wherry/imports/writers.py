"""Commits the batches of an import, in one of two ways.

In: batches in order. Out: rows, errors, counters and checkpoint, moved together under the lease.

`BatchWriter` commits each batch by itself: a crash costs the batch in hand. `WholeWriter` keeps all rows in one
transaction, for `atomic` and `dryRun`; errors and progress are committed beside it, over a second connection. A batch
that the database refuses is tried again, as it may have collided with another transaction, or have been wrongly taken
for all new; then it is cut in two, down to the record that is refused. A record that only ever loses to other
transactions is not refused: the job is given back, and goes on from its checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec
import psycopg

from wherry.accounts.authority import Authority, read_role
from wherry.database.pools import Connection, Pool
from wherry.database.queries import load
from wherry.errors import ErrorCode, JobCancelled, JobFailed, JobReleased
from wherry.imports.ids import IdReservation
from wherry.imports.merge import RACES, REFUSALS, Merger, Tally, is_id_clash, refusal, session_name, write_errors
from wherry.imports.models import FILE_INDEX, Batch, Options, Place, RecordError
from wherry.imports.plan import Rules
from wherry.imports.report_budget import ReportState
from wherry.imports.source import Progress
from wherry.jobs import ledger
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance
from wherry.jobs.runs import Run
from wherry.resources.model import Resource

ATTEMPTS = 3
"""How often a batch is tried before it is cut in two."""


class Writer(ABC):
    """Commits batches; an async context that holds its connections.

    Args:
        pool: two connections of it are held, and one more for a moment.
        run: whose lease every commit names.
        resource: what the records are.
        options: of the import.
        authority: on which it is run.
        max_records: that a file may have.
        max_error_bytes: of the error report.
    """

    retries_races = True
    """Whether a batch that is undone lets go of all locks, so that it may fare better at the next attempt."""

    _reporting: Connection
    """Where errors and counters are committed."""

    def __init__(
        self,
        pool: Pool,
        run: Run,
        resource: Resource,
        options: Options,
        authority: Authority,
        max_records: int,
        max_error_bytes: int,
    ) -> None:
        self._pool = pool
        self._run = run
        self._resource = resource
        self._options = options
        self._max_records = max_records
        self._authority = authority
        self._max_error_bytes = max_error_bytes
        self._report = ReportState.of(run.job.checkpoint)
        self._merger = Merger(resource, run.job.id, Rules(options.on_conflict, authority))
        self._ids = IdReservation(resource, run.lease)
        self._highest_id = 0
        self._held = AsyncExitStack()
        self._position = Position(False, run.job.success_count, run.job.error_count)

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)
        if self._ids.reserved and (kind is None or issubclass(kind, (JobFailed, JobCancelled))):
            async with self._pool.connection() as connection:
                await self._ids.give_back(connection, self._highest_id)

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where to begin reading."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to read or write."""
        return False

    async def write(self, batch: Batch, progress: Progress) -> None:
        """Commit a batch.

        Raises:
            LeaseLost, JobCancelled, JobReleased: as the ledger and the run say; the last also where other
                transactions were in the way time and again.
            JobFailed: the import's owner has lost the role that it needs.
        """
        refused = await self._refusal(batch, progress)
        if refused is None:
            return
        if isinstance(refused, RACES) and not self.retries_races:
            raise JobReleased(f"job {self._run.job.id} met transactions that wait for it") from refused
        if len(batch) > 1:
            middle = len(batch) // 2
            await self.write(batch[:middle], progress)
            await self.write(batch[middle:], progress)
            return
        if isinstance(refused, RACES) or is_id_clash(self._resource, batch[0], refused):
            raise JobReleased(f"job {self._run.job.id} lost to other transactions time and again") from refused
        errors = (refusal(self._resource, batch[0], refused),)
        await self._commit([msgspec.structs.replace(batch[0], record=None, errors=errors)], progress, again=False)

    async def report_file(self, failure: JobFailed) -> None:
        """Add a fault of the file as a whole to the report; once, though a run that takes over may meet it again."""
        code = ErrorCode[failure.code]
        error = RecordError(FILE_INDEX, None, code, failure.message, details=failure.detail or None)
        job_id = self._run.job.id
        async with self._reporting.transaction():
            found = await self._reporting.execute(load("imports")["has_file_error"], {"job_id": job_id})
            errors = [] if await found.fetchone() else [error]
            await write_errors(self._reporting, job_id, errors)
            summary = {error.summary_key: 1 for error in errors}
            await self._run.advance_within(self._reporting, Advance(summary=summary))

    @abstractmethod
    async def finish(self) -> Position:
        """Commit what is left; the final counters."""

    @abstractmethod
    async def _commit(self, batch: Batch, progress: Progress, *, again: bool) -> None: ...

    async def _refusal(self, batch: Batch, progress: Progress) -> psycopg.Error | None:
        """Commit a batch, or say what the database has against it."""
        refused: psycopg.Error | None = None
        for attempt in range(ATTEMPTS if self.retries_races else 2):
            try:
                await self._commit(batch, progress, again=attempt > 0)
                return None
            except (*REFUSALS, *RACES) as error:
                refused = error
            if isinstance(refused, RACES) and not self.retries_races:
                break
        return refused

    async def _connect(self) -> Connection:
        return await self._held.enter_async_context(self._pool.connection())

    async def _cover_ids(self, batch: Batch, progress: Progress) -> None:
        room = min(self._max_records, progress.most_records_after(batch[-1].offset))
        await self._ids.cover(self._reporting, batch, room)

    async def _end_predecessors(self, connection: Connection) -> None:
        """End the sessions of earlier runs of this job, never of a later one: inside a transaction."""
        await ledger.hold(connection, self._run.lease)
        await connection.execute(load("imports")["end_predecessors"], {"name": session_name(self._run.job.id)})

    async def _advance(
        self, connection: Connection, batch: Batch, tally: Tally, successes: int, percent: float
    ) -> ReportState:
        """Write a batch's errors and count it; the report's state, which holds once this is committed."""
        errors, report = self._report.admit(tally.errors, self._max_error_bytes)
        await write_errors(connection, self._run.job.id, errors)
        step = Advance(
            successes=successes,
            errors=tally.failures,
            summary=tally.summary,
            checkpoint=report.checkpoint_at(_end(batch)),
            progress=percent,
        )
        self._position = await self._run.advance_within(connection, step)
        return report


class BatchWriter(Writer):
    """Each batch is a transaction: rows, errors, counters, checkpoint."""

    async def __aenter__(self) -> Self:
        self._reporting = await self._connect()
        async with self._reporting.transaction():
            await self._end_predecessors(self._reporting)
        return self

    @property
    def place(self) -> Place:
        """Past the last batch that was committed."""
        return Place.of(self._run.job.checkpoint)

    async def finish(self) -> Position:
        """The counters."""
        return self._position

    async def _commit(self, batch: Batch, progress: Progress, *, again: bool) -> None:
        await self._cover_ids(batch, progress)
        async with self._reporting.transaction():
            tally = await self._merger.write(self._reporting, batch, again=again)
            report = await self._advance(self._reporting, batch, tally, tally.successes, progress.percent)
        self._report = report
        self._highest_id = max(self._highest_id, tally.highest_id)
        self._run.check(self._position)


class WholeWriter(Writer):
    """One transaction for all rows; errors, counters and progress are committed beside it as they come.

    The checkpoint says whether an earlier run committed its rows and died before the job had ended: then nothing is
    left to do. Until then a run starts from the beginning.
    """

    retries_races = False

    async def __aenter__(self) -> Self:
        self._reporting = await self._connect()
        self._successes = 0
        self._brought = 0
        self._last = Place()
        self._is_alone = False
        if self.is_complete:
            return self
        self._main = await self._connect()
        async with self._reporting.transaction():
            await self._end_predecessors(self._reporting)
            await ledger.restart(self._reporting, self._run.lease)
            await self._reporting.execute(load("imports")["delete_errors"], {"job_id": self._run.job.id})
        self._position = Position(False, 0, 0)
        self._report = ReportState()
        await self._held.enter_async_context(self._main.transaction(force_rollback=self._options.dry_run))
        await self._main.execute(load("imports")["allow_idle"], {"name": session_name(self._run.job.id)})
        return self

    @property
    def is_complete(self) -> bool:
        """Whether an earlier run has committed its rows."""
        return bool((self._run.job.checkpoint or {}).get("committed"))

    @property
    def place(self) -> Place:
        """The beginning, as nothing of an earlier run was kept; or the end, as all of it was."""
        return Place.of(self._run.job.checkpoint) if self.is_complete else Place()

    async def finish(self) -> Position:
        """Count what all-or-nothing is about to commit, in the transaction that commits it.

        Raises:
            JobFailed: all or nothing was asked for, and some records have errors; or the owner has lost the role.
        """
        if not self._options.atomic or self.is_complete:
            return self._position
        if self._position.error_count:
            await self._fail()
        self._authority.require(await read_role(self._main, self._authority.owner_id))
        # A dry run's rows are rolled back, but its counters stay: they go over the other connection.
        connection = self._reporting if self._options.dry_run else self._main
        await self._main.execute(load("imports")["limit_idle"])
        async with connection.transaction():
            checkpoint = {**self._report.checkpoint_at(self._last), "committed": not self._options.dry_run}
            step = Advance(successes=self._successes, checkpoint=checkpoint)
            self._position = await self._run.advance_within(connection, step)
            self._run.require_wanted(self._position)
        self._highest_id = 0 if self._options.dry_run else self._brought
        return self._position

    async def _fail(self) -> None:
        errors = self._position.error_count
        total = errors + self._successes
        async with self._reporting.transaction():
            await self._run.advance_within(self._reporting, Advance(total_records=total, progress=100))
        message = f"{errors} of {total} records have errors; nothing was written, because `atomic` was set"
        raise JobFailed(ErrorCode.BATCH_FAILED, message, detail={"errors": errors})

    async def _commit(self, batch: Batch, progress: Progress, *, again: bool) -> None:
        if not self._is_alone:
            await self._main.execute(load("imports")["lock_whole"], {"table": self._resource.name})
            self._is_alone = True
        await self._cover_ids(batch, progress)
        async with self._main.transaction():
            tally = await self._merger.write(self._main, batch, again=again, check_ids=True)
        self._successes += tally.successes
        self._brought = max(self._brought, tally.highest_id)
        self._last = _end(batch)
        # What all-or-nothing has not committed does not count yet.
        successes = 0 if self._options.atomic else tally.successes
        async with self._reporting.transaction():
            report = await self._advance(self._reporting, batch, tally, successes, progress.percent)
        self._report = report
        self._run.check(self._position)


def _end(batch: Batch) -> Place:
    return Place(batch[-1].index + 1, batch[-1].offset)
