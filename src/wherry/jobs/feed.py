"""The current state of jobs that clients are watching.

A job is read once per change, together with all others that have changed, however many clients watch it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import structlog

from wherry.database.pools import Pool
from wherry.jobs import ledger
from wherry.jobs.models import Job
from wherry.jobs.notifications import Notifications

LOOK_SECONDS = 0.005
"""The time between two looks, in which changes add up."""

RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Watched:
    """A job that clients are watching, as it was at the last look; None if it was deleted."""

    job: Job | None
    wakes: set[asyncio.Event] = field(default_factory=set)
    subscription: ExitStack = field(default_factory=ExitStack)

    def update(self, job: Job | None) -> None:
        if job != self.job:
            self.job = job
            for wake in self.wakes:
                wake.set()


class JobFeed:
    """Follows the jobs that the clients of a process are watching."""

    def __init__(self, pool: Pool, notifications: Notifications) -> None:
        self._pool = pool
        self._notifications = notifications
        self._watched: dict[UUID, Watched] = {}
        self._changed: set[UUID] = set()
        self._due = asyncio.Event()

    @contextmanager
    def watching(self, job: Job, wake: asyncio.Event) -> Iterator[Watched]:
        """Keep a job, which was just read, up to date. `wake` is set whenever it has changed."""
        watched = self._watched.get(job.id) or self._begin(job)
        if watched.job is not None and watched.job.updated_at < job.updated_at:
            watched.update(job)
        watched.wakes.add(wake)
        self._note(job.id)  # it may have changed since it was read
        try:
            yield watched
        finally:
            watched.wakes.discard(wake)
            if not watched.wakes:
                del self._watched[job.id]
                watched.subscription.close()

    async def run(self) -> None:
        """Look at the jobs that have changed, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            changed, self._changed = self._changed & self._watched.keys(), set()
            try:
                await self._look(changed)
            except Exception:
                log.exception("jobs could not be read for their event streams")
                self._changed |= changed
                self._due.set()
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, job_ids: set[UUID]) -> None:
        async with self._pool.connection() as connection:
            jobs = await ledger.many(connection, job_ids)
        for job_id in job_ids & self._watched.keys():
            self._watched[job_id].update(jobs.get(job_id))

    def _begin(self, job: Job) -> Watched:
        watched = self._watched[job.id] = Watched(job)
        watched.subscription.enter_context(self._notifications.on_change(job.id, partial(self._note, job.id)))
        return watched

    def _note(self, job_id: UUID) -> None:
        self._changed.add(job_id)
        self._due.set()
