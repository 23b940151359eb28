"""What a runner works with: the job, its lease, and one way to move it.

A runner works in steps. Each step advances the lease, or looks at it, and thereby learns whether to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wherry.database.pools import Connection, Pool
from wherry.errors import JobCancelled, JobReleased
from wherry.jobs import ledger
from wherry.jobs.events import append_event
from wherry.jobs.ledger import Position
from wherry.jobs.models import Advance, Job, Lease, Outcome
from wherry.jobs.run_log import log_progress


@dataclass(frozen=True)
class Run:
    """One run of a job.

    Attributes:
        job: as it was claimed.
        lease: the right to write.
        pool: a connection of it is used for a moment, to advance or look.
        stopping: set when the worker stops.
    """

    job: Job
    lease: Lease
    pool: Pool
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def advance(
        self, step: Advance, *, event: str | None = None, meta: Mapping[str, object] | None = None
    ) -> None:
        """Count a step in its own transaction, then check whether to go on.

        Args:
            step: what was done.
            event: type of the event to log in the same transaction, or None for no event.
            meta: of that event.

        Raises:
            LeaseLost: another worker has claimed the job since.
            JobCancelled, JobReleased: see `check`.
        """
        async with self.pool.connection() as connection, connection.transaction():
            position = await self.advance_within(connection, step)
            if event is not None:
                await append_event(connection, self.job.id, event, meta)
        self.check(position)

    async def advance_within(self, connection: Connection, step: Advance) -> Position:
        """Count a step in the transaction that writes its records; call `check` after the commit.

        Raises:
            LeaseLost: another worker has claimed the job since.
        """
        return await ledger.advance(connection, self.lease, step)

    def check(self, position: Position) -> None:
        """Go on only if the job is wanted and the worker stays.

        Raises:
            JobCancelled: the owner has cancelled the job.
            JobReleased: the worker is stopping.
        """
        log_progress(position)
        self.require_wanted(position)
        self._require_worker()

    async def look(self) -> None:
        """Between steps: go on only if the lease is ours, the job is wanted and the worker stays.

        Raises:
            LeaseLost, JobCancelled, JobReleased: it is not, or the worker is stopping.
        """
        self._require_worker()
        await self.look_within_step()

    async def look_within_step(self) -> None:
        """During a step, which a stopping worker completes: go on only if the lease is ours and the job is wanted.

        Raises:
            LeaseLost, JobCancelled: it is not.
        """
        async with self.pool.connection() as connection:
            self.require_wanted(await ledger.look(connection, self.lease))

    def require_wanted(self, position: Position) -> None:
        """Go on only if the owner has not cancelled the job.

        Raises:
            JobCancelled: the owner has.
        """
        if position.cancel_requested:
            raise JobCancelled(f"job {self.job.id} was cancelled by its owner")

    def _require_worker(self) -> None:
        if self.stopping.is_set():
            raise JobReleased(f"job {self.job.id} is given back, as the worker is stopping")


class Runner(Protocol):
    """Does one kind of job, in steps that each advance the lease."""

    async def run(self, run: Run) -> Outcome:
        """Work until the job is done, starting at its checkpoint.

        Raises:
            JobFailed: the job cannot succeed.
            JobCancelled, JobReleased, LeaseLost: as `Run.advance` and `Run.look` raise them.
        """
        ...
