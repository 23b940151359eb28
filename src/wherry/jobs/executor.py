"""Runs a job: claims it, calls the runner of its kind, and records how the run ended.

The outcome of a job is in the ledger, not in the queue.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from wherry.database.pools import Connection, Pool
from wherry.errors import ErrorCode, JobCancelled, JobFailed, JobReleased, LeaseLost, Unavailable
from wherry.jobs import ledger
from wherry.jobs.ledger import Claim
from wherry.jobs.models import CANCELLED, Job, Outcome
from wherry.jobs.run_log import RunLog, lines_of
from wherry.jobs.runs import Run, Runner
from wherry.jobs.states import Kind, Status

MAX_DEATHS = 3
"""A job whose workers died this many times in a row at one checkpoint is assumed to be the cause."""

STOP_SECONDS = 8.0
"""How long a runner may take to finish its batch when the worker stops."""

CONNECTION_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,  # after the process was suspended
    PoolTimeout,
)
RECONNECT_SECONDS = 30.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Executor:
    """Runs jobs with the runner of their kind."""

    def __init__(self, pool: Pool, runners: Mapping[Kind, Runner]) -> None:
        self._pool = pool
        self._runners = runners
        # Jobs whose workers have died twice run one at a time, so that the one that kills its worker fails alone. The
        # lock is acquired before the claim, because only deaths of claimed jobs are counted.
        self._quarantine = asyncio.Lock()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._is_stopping = False
        # What is not cancelled at once, each with the event that tells it that the worker stops.
        self._guarded: dict[asyncio.Task[Any], asyncio.Event] = {}

    def stop(self) -> None:
        """Have every run end at its next checkpoint, or be cancelled after `STOP_SECONDS`; claim no more jobs."""
        self._is_stopping = True
        for task in self._guarded:
            self._limit(task)

    async def execute(self, job_id: UUID, queue_id: int | None = None) -> None:
        """Run a job to its end, if its queue row may claim it.

        Raises:
            JobReleased: the job is queued again and needs another run.
        """
        claimant: dict[str, Any] = {"job_id": job_id, "queue_id": queue_id, "worker": self._worker}
        claim = await self._reached(job_id, partial(ledger.claim_unsuspected, **claimant))
        if claim is not None:
            await self._run(claim)
            return
        found = await self._reached(job_id, partial(ledger.get, job_id=job_id))
        if found is None or not found.is_suspect:
            return
        async with self._quarantine:
            claim = await self._reached(job_id, partial(ledger.claim, **claimant))
            if claim is not None:
                await self._run(claim)

    async def _run(self, claim: Claim) -> None:
        run, job = Run(claim.job, claim.lease, self._pool), claim.job
        with lines_of(job) as lines:
            lines.started()
            end = _end_before_start(job) or await self._until_stopped(run)
            settling = asyncio.create_task(self._settle(run, end, lines), name=f"settle {job.id}")
            await self._despite_stop(settling, asyncio.Event())
            settling.result()

    async def _reached(self, job_id: UUID, act: Callable[[Connection], Awaitable[T]]) -> T:
        """Read or claim the job by one statement, or release it if the worker stops or the database does not answer."""
        if self._is_stopping:
            raise JobReleased(f"job {job_id} was not claimed because the worker is stopping")
        try:
            async with self._pool.connection() as connection:
                return await act(connection)
        except CONNECTION_ERRORS as error:
            raise JobReleased(f"job {job_id} could not be claimed: the database did not answer") from error

    async def _until_stopped(self, run: Run) -> _End:
        """Await the runner; if the worker stops, let the runner reach its next checkpoint first."""
        work = asyncio.create_task(self._attempt(run), name=f"run {run.job.id}")
        await self._despite_stop(work, run.stopping)
        if work.cancelled():
            return _End(JobReleased(f"job {run.job.id} was interrupted because the worker is stopping"))
        return work.result()

    async def _despite_stop(self, task: asyncio.Task[Any], stopping: asyncio.Event) -> None:
        """Wait for a task. After `stop`, or a cancel of this wait, `stopping` is set and it has `STOP_SECONDS` left."""
        self._guarded[task] = stopping
        if self._is_stopping:
            self._limit(task)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                self._limit(task)
        del self._guarded[task]

    def _limit(self, task: asyncio.Task[Any]) -> None:
        stopping = self._guarded[task]
        if not stopping.is_set():
            stopping.set()
            asyncio.get_running_loop().call_later(STOP_SECONDS, task.cancel)

    async def _attempt(self, run: Run) -> _End:
        try:
            return _End(await self._runners[run.job.kind].run(run))
        except LeaseLost:
            return _End(None)
        except JobReleased as released:
            return _End(released)
        except JobCancelled:
            return _End(CANCELLED)
        except JobFailed as failure:
            return _End(_failed(failure))
        except Unavailable as error:
            return _End(_failed(JobFailed.by(error)), "storage gave no answer", error)
        except CONNECTION_ERRORS as error:
            return _End(JobReleased(f"job {run.job.id} lost its database connection: {error}"))
        except Exception as error:
            return _End(CRASHED, "job crashed", error)

    async def _settle(self, run: Run, end: _End, lines: RunLog) -> None:
        """Write the outcome or the release, and log the job as the ledger then has it."""
        try:
            await self._write(run, end, lines)
        except psycopg.Error:
            log.exception("the database refuses the outcome of a job")
            await self._write(run, _End(CRASHED), lines)
        if isinstance(end.result, JobReleased):
            raise end.result

    async def _write(self, run: Run, end: _End, lines: RunLog) -> None:
        """Write the outcome or the release; retry while the database cannot be reached."""
        deadline = asyncio.get_running_loop().time() + RECONNECT_SECONDS
        while True:
            try:
                await self._write_once(run, end, lines)
                break
            except CONNECTION_ERRORS as error:
                if asyncio.get_running_loop().time() > deadline:
                    if end.result is None:
                        lines.lost(None)
                        return
                    reason = "the outcome of its run could not be written: the database does not answer"
                    lines.released(None, reason)
                    raise JobReleased(f"job {run.job.id} is released: {reason}") from error
        if isinstance(end.result, Outcome) and end.result.discard is not None:
            async with self._pool.connection() as connection:
                job = await ledger.get(connection, run.job.id)
            if job is None or job.artifact != end.result.artifact:
                await end.result.discard()

    async def _write_once(self, run: Run, end: _End, lines: RunLog) -> None:
        try:
            async with self._pool.connection() as connection:
                job = await _written(connection, run, end.result)
        except LeaseLost:
            # The job was cancelled, or another worker has claimed it, or an earlier attempt was committed after all.
            async with self._pool.connection() as connection:
                found = await ledger.get(connection, run.job.id)
            lines.lost(found)
        else:
            if end.cause is not None:
                log.error(end.what, exc_info=end.cause)
            lines.settled(job, str(end.result) if isinstance(end.result, JobReleased) else None)


@dataclass(frozen=True)
class _End:
    """How a run ended.

    Attributes:
        result: what to write, or None if the lease was lost.
        what: the log message for `cause`.
        cause: an error to log with its traceback, unless the lease was lost meanwhile.
    """

    result: Outcome | JobReleased | None
    what: str = ""
    cause: Exception | None = None


async def _written(connection: Connection, run: Run, result: Outcome | JobReleased | None) -> Job:
    """Write the outcome or the release, and return the updated job. Raises `LeaseLost` if there is nothing to write."""
    if result is None:
        raise LeaseLost(f"job {run.job.id} is no longer held under epoch {run.lease.epoch}")
    if isinstance(result, JobReleased):
        # The job's owner sees the reason, so it does not contain an error's text.
        reason = "the worker stopped" if run.stopping.is_set() else "the worker lost the database"
        return await ledger.release(connection, run.lease, reason)
    return await ledger.finish(connection, run.lease, result)


def _failed(failure: JobFailed) -> Outcome:
    error: dict[str, object] = {"code": failure.code, "message": failure.message}
    if failure.number is not None:
        error["number"] = failure.number
    if failure.detail:
        error["detail"] = failure.detail
    return Outcome(status=Status.FAILED, error=error, message=failure.message)


CRASHED = _failed(
    JobFailed(ErrorCode.INTERNAL_ERROR, "An internal error ended the job; the server's log has the details")
)


def _end_before_start(job: Job) -> _End | None:
    """How a claimed job ends that is not to be run, or None."""
    if job.cancel_requested_at is not None:
        return _End(CANCELLED)
    if job.deaths < MAX_DEATHS:
        return None
    place = "its beginning" if job.checkpoint is None else "the same checkpoint"
    message = f"The job's worker died {job.deaths} times in a row at {place}; it will not be run again by itself"
    return _End(_failed(JobFailed(ErrorCode.INTERNAL_ERROR, message, detail={"checkpoint": job.checkpoint})))
