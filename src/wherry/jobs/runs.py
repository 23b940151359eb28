"""The interface between a runner and its job.

A runner works in steps. After each, it calls `Run.advance` or `Run.look`, which raise an exception if it must stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wherry.database.pools import Connection, Pool
from wherry.errors import JobCancelled, JobReleased
from wherry.jobs import ledger
from wherry.jobs.events import append_event
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance, Job, Lease, Outcome
from wherry.jobs.run_log import log_progress

SAMPLE_SECONDS = 5.0
"""The shortest time between two checkpoints that a job's history shows."""

SAMPLE_PORTION = 1 / 20
"""If a run is long, the same as a part of its duration. Nine hours have about 140 checkpoints."""


class Sampling:
    """Chooses the checkpoints of one run that the job's history shows: fewer and fewer, and none of a short run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._next = self._start + SAMPLE_SECONDS

    def is_due(self) -> bool:
        """Whether the history shows the checkpoint that is about to be written."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + max(SAMPLE_SECONDS, SAMPLE_PORTION * (now - self._start))
        return True


@dataclass(frozen=True)
class Run:
    """One run of a job, which is as it was claimed.

    Every method that reads or writes the job raises `LeaseLost` if another worker has claimed it since.
    """

    job: Job
    lease: Lease
    pool: Pool
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the worker stops."""
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def has_predecessors(self) -> bool:
        """Whether there were earlier runs of the job."""
        return self.lease.epoch > 1

    async def advance(
        self, step: Advance, *, event: str | None = None, meta: Mapping[str, object] | None = None
    ) -> None:
        """Write a step, and an event of this type if it is not None, in one transaction; then `check`."""
        async with self.pool.connection() as connection, connection.transaction():
            position = await self.advance_within(connection, step)
            if event is not None:
                await append_event(connection, self.job.id, event, meta)
        self.check(position)

    async def advance_within(self, connection: Connection, step: Advance) -> Position:
        """Write a step in the caller's transaction, which writes its records; call `check` after the commit."""
        return await ledger.advance(connection, self.lease, step, sampled=self.sampling.is_due())

    def check(self, position: Position) -> None:
        """Continue only if the job is not cancelled and the worker is not stopping.

        Raises:
            JobCancelled: a cancel was requested.
            JobReleased: the worker is stopping.
        """
        log_progress(position)
        self.require_wanted(position)
        self._require_worker()

    async def look(self) -> None:
        """Between steps: check our lease, that the job is not cancelled, and that the worker is not stopping."""
        self._require_worker()
        await self.look_within_step()

    async def look_within_step(self) -> None:
        """Like `look`, but within a step, which a stopping worker still completes."""
        async with self.pool.connection() as connection:
            self.require_wanted(await ledger.look(connection, self.lease))

    def require_wanted(self, position: Position) -> None:
        """Raise `JobCancelled` if a cancel was requested."""
        if position.cancel_requested:
            raise JobCancelled(f"job {self.job.id} was cancelled")

    def _require_worker(self) -> None:
        if self.stopping.is_set():
            raise JobReleased(f"job {self.job.id} is released because the worker is stopping")


class Runner(Protocol):
    """Runs one kind of job, in steps that each advance the lease."""

    async def run(self, run: Run) -> Outcome:
        """Run the job from its checkpoint to its end.

        Raises:
            JobFailed: the job cannot succeed.
            JobCancelled, JobReleased, LeaseLost: as `Run.advance` and `Run.look` raise them.
        """
        ...
