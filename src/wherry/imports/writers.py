"""Commits the batches of an import, in one of two ways.

In: batches in order. Out: rows, errors, counters and checkpoint, moved together under the lease.

`BatchWriter` commits each batch by itself: a crash costs the batch in hand. `WholeWriter` keeps all rows in one
transaction, for `atomic` and `dryRun`; errors and progress are committed beside it, over a second connection. A batch
that the database refuses is tried again, for it may have met another transaction or a false hope; then it is cut in
two, down to the record that is refused.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

import msgspec
import psycopg

from wherry.database.pools import Connection, Pool
from wherry.database.queries import load
from wherry.errors import ErrorCode, JobFailed
from wherry.imports.decode import ADMIN
from wherry.imports.merge import RACES, REFUSALS, Merger, Tally, refusal, session_name, write_errors
from wherry.imports.models import FILE_INDEX, Batch, Options, Place, RecordError
from wherry.imports.plan import Rules
from wherry.jobs import ledger
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance
from wherry.jobs.runs import Run
from wherry.resources.model import Resource

STAGE = "importing"


class Writer(Protocol):
    """Commits batches; an async context that holds its connections."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def place(self) -> Place:
        """Where to begin reading."""
        ...

    async def write(self, batch: Batch, percent: float) -> None:
        """Commit a batch.

        Raises:
            LeaseLost, JobCancelled, JobReleased: as the ledger and the run say.
            psycopg.OperationalError: the connection is lost, or other transactions were in the way time and again.
        """
        ...

    async def report_file(self, failure: JobFailed) -> None:
        """Add a fault of the file as a whole to the report."""
        ...

    async def finish(self) -> Position:
        """Commit what is left; the final counters."""
        ...


class _Base:
    def __init__(self, pool: Pool, run: Run, resource: Resource, options: Options) -> None:
        self._pool = pool
        self._run = run
        self._resource = resource
        self._options = options
        by_admin = run.job.options.get("callerRole") == ADMIN
        self._merger = Merger(resource, run.job.id, Rules(options.on_conflict, by_admin))
        self._held = AsyncExitStack()
        self._position = Position(False, run.job.success_count, run.job.error_count)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)

    async def _connect(self) -> Connection:
        return await self._held.enter_async_context(self._pool.connection())

    async def _end_predecessors(self, connection: Connection) -> None:
        await connection.execute(load("imports")["end_predecessors"], {"name": session_name(self._run.job.id)})

    async def write(self, batch: Batch, percent: float) -> None:
        """See `Writer.write`."""
        refused: psycopg.Error
        for again in (False, True, True):
            try:
                return await self._commit(batch, percent, again=again)
            except (*REFUSALS, *RACES) as error:
                refused = error
        if len(batch) > 1:
            middle = len(batch) // 2
            await self.write(batch[:middle], percent)
            return await self.write(batch[middle:], percent)
        if isinstance(refused, RACES):
            raise refused  # nothing is wrong with the record: the job is given back, and goes on from its checkpoint
        entry = batch[0]
        errors = (refusal(self._resource, entry, refused),)
        return await self._commit([msgspec.structs.replace(entry, record=None, errors=errors)], percent, again=False)

    async def _commit(self, batch: Batch, percent: float, *, again: bool) -> None:
        raise NotImplementedError

    async def _report_file(self, connection: Connection, failure: JobFailed) -> None:
        """Once, though a run that was taken over may meet the fault again."""
        code = ErrorCode[failure.code]
        error = RecordError(FILE_INDEX, None, code, failure.message, details=failure.detail or None)
        job_id = self._run.job.id
        async with connection.transaction():
            found = await connection.execute(load("imports")["has_file_error"], {"job_id": job_id})
            errors = [] if await found.fetchone() else [error]
            await write_errors(connection, job_id, errors)
            summary = {error.summary_key: 1 for error in errors}
            await ledger.advance(connection, self._run.lease, Advance(summary=summary))


def _advance(batch: Batch, tally: Tally, percent: float, successes: int) -> Advance:
    last = batch[-1]
    return Advance(
        successes=successes,
        errors=tally.failures,
        summary=tally.summary,
        checkpoint={"index": last.index + 1, "offset": last.offset},
        progress=percent,
        stage=STAGE,
        stage_progress=percent,
    )


class BatchWriter(_Base):
    """Each batch is a transaction: rows, errors, counters, checkpoint."""

    async def __aenter__(self) -> Self:
        self._connection = await self._connect()
        await self._end_predecessors(self._connection)
        return self

    @property
    def place(self) -> Place:
        """Behind the last batch that was committed."""
        checkpoint = self._run.job.checkpoint
        return Place(checkpoint["index"], checkpoint["offset"]) if checkpoint else Place()

    async def _commit(self, batch: Batch, percent: float, *, again: bool) -> None:
        async with self._connection.transaction():
            tally = await self._merger.write(self._connection, batch, again=again)
            await write_errors(self._connection, self._run.job.id, tally.errors)
            step = _advance(batch, tally, percent, tally.successes)
            self._position = await ledger.advance(self._connection, self._run.lease, step)
            await self._merger.move_ids(self._connection, tally.highest_id)
        self._run.check(self._position)

    async def report_file(self, failure: JobFailed) -> None:
        """See `Writer.report_file`."""
        await self._report_file(self._connection, failure)

    async def finish(self) -> Position:
        """The counters."""
        return self._position


class WholeWriter(_Base):
    """One transaction for all rows; errors, counters and progress are committed beside it as they come."""

    async def __aenter__(self) -> Self:
        self._side = await self._connect()
        self._main = await self._connect()
        await self._end_predecessors(self._side)
        async with self._side.transaction():
            await ledger.restart(self._side, self._run.lease)
            await self._side.execute(load("imports")["delete_errors"], {"job_id": self._run.job.id})
        self._position = Position(False, 0, 0)
        self._successes = 0
        self._highest_id = 0
        await self._held.enter_async_context(self._main.transaction(force_rollback=self._options.dry_run))
        await self._main.execute(load("imports")["may_rest"])
        return self

    @property
    def place(self) -> Place:
        """The beginning: nothing of an earlier attempt was kept."""
        return Place()

    async def _commit(self, batch: Batch, percent: float, *, again: bool) -> None:
        async with self._main.transaction():
            tally = await self._merger.write(self._main, batch, again=again, check_ids=True)
        self._successes += tally.successes
        self._highest_id = max(self._highest_id, tally.highest_id)
        # What all-or-nothing has not committed does not count yet.
        successes = 0 if self._options.atomic else tally.successes
        async with self._side.transaction():
            await write_errors(self._side, self._run.job.id, tally.errors)
            step = _advance(batch, tally, percent, successes)
            self._position = await ledger.advance(self._side, self._run.lease, step)
        self._run.check(self._position)

    async def report_file(self, failure: JobFailed) -> None:
        """See `Writer.report_file`."""
        await self._report_file(self._side, failure)

    async def finish(self) -> Position:
        """Count what all-or-nothing is about to commit, in the transaction that commits it.

        Raises:
            JobFailed: all or nothing was asked for, and some records have errors.
        """
        if not self._options.atomic:
            return self._position
        errors = self._position.error_count
        if errors:
            total = errors + self._successes
            async with self._side.transaction():
                await ledger.advance(self._side, self._run.lease, Advance(total_records=total))
            message = f"{errors} of {total} records have errors, and all or none was asked for"
            raise JobFailed(ErrorCode.BATCH_FAILED, message, detail={"errors": errors})
        # A dry run leaves the rows behind, but not what it found out.
        connection = self._side if self._options.dry_run else self._main
        await self._main.execute(load("imports")["may_not_rest"])
        async with connection.transaction():
            step = Advance(successes=self._successes)
            self._position = await ledger.advance(connection, self._run.lease, step)
            if not self._options.dry_run:
                await self._merger.move_ids(connection, self._highest_id)
        return self._position
