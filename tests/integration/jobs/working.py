"""Workers in this process, with services that the tests watch."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

from wherry.jobs.states import Kind
from wherry.jobs.worker_app import JobServices, WorkerApp


class Recorder:
    """Services that record which jobs they run."""

    def __init__(self) -> None:
        self.seen: list[UUID] = []
        self.ran = asyncio.Event()
        self.failures: list[Exception] = []

    async def execute(self, job_id: UUID, queue_id: int) -> None:
        self.seen.append(job_id)
        if self.failures:
            raise self.failures.pop()
        self.ran.set()

    async def deliver(self, event_id: str) -> None:
        raise AssertionError(event_id)

    async def retain(self) -> None:
        return

    def stop(self) -> None:
        return

    def services(self) -> JobServices:
        return JobServices(self.execute, self.deliver, self.retain, self.stop)


@asynccontextmanager
async def working(url: str, recorder: Recorder, *, jobs: int = 2) -> AsyncIterator[WorkerApp]:
    """A worker with these services, which stops at the end."""

    @asynccontextmanager
    async def open_services() -> AsyncIterator[JobServices]:
        yield recorder.services()

    app = WorkerApp(url, concurrency=jobs, open_services=open_services, slow={Kind.CAPSULE})
    async with app.open_async():
        task = asyncio.create_task(app.run_worker_async())
        try:
            yield app
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 10)


class Gated(Recorder):
    """Runs that begin as the test sees, some of which end only when it opens the gate."""

    def __init__(self, held: Iterable[UUID]) -> None:
        super().__init__()
        self._held = set(held)
        self.gate = asyncio.Event()
        self.begun: asyncio.Queue[UUID] = asyncio.Queue()

    async def execute(self, job_id: UUID, queue_id: int) -> None:
        self.begun.put_nowait(job_id)
        if job_id in self._held:
            await self.gate.wait()

    async def next(self) -> UUID:
        """The next job whose run begins."""
        return await asyncio.wait_for(self.begun.get(), 10)
