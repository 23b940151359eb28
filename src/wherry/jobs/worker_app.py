"""The procrastinate application, with what procrastinate lacks: rescue, reconnecting, and releasing jobs on a stop.

`procrastinate --app=… worker` runs it like any other application. `run_worker_async` survives outages of the database:
after each, it starts a new worker, until a signal stops it.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import procrastinate
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job as QueueJob
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker

from wherry.database.pools import connection_options
from wherry.database.schema import SCHEMA
from wherry.errors import JobReleased
from wherry.jobs import rescue
from wherry.jobs.queue import RUN_JOB, FencedJobManager, Slots
from wherry.jobs.rescue import STALLED_SECONDS
from wherry.jobs.states import Kind

HEARTBEAT_SECONDS = 5.0
POLL_SECONDS = 1.0
"""Short, because we do not use LISTEN, which does not survive a restart of the server."""

STOP_GRACE_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
CANCEL_SECONDS = 1.0
RETENTION_CRON = "*/5 * * * *"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobServices:
    """What a worker process does: run a job to its end, and remove what has expired. Opened once per process."""

    execute: Callable[[UUID], Awaitable[None]]
    retain: Callable[[], Awaitable[None]]


OpenServices = Callable[[], AbstractAsyncContextManager[JobServices]]


class GiveBack(BaseRetryStrategy):
    """Retries every run that raises: at once if the job was released, otherwise after a pause.

    The number of retries is not limited here: the executor fails a job whose workers die too often at one checkpoint.
    """

    def get_retry_decision(self, *, exception: BaseException, job: QueueJob) -> RetryDecision:
        wait = 0 if isinstance(exception, (JobReleased, asyncio.CancelledError)) else min(2**job.attempts, 30)
        return RetryDecision(retry_in={"seconds": wait})


class WorkerApp(procrastinate.App):
    """A procrastinate application whose workers run wherry's jobs.

    Args:
        concurrency: how many jobs a process runs at a time, unless the command line overrides it.
        open_services: opens pools, storage and runners when a worker starts, and closes them when it ends.
        slow: kinds whose jobs may take minutes each; they get at most half of the slots.
    """

    def __init__(
        self, conninfo: str, *, concurrency: int, open_services: OpenServices, slow: Collection[Kind] = ()
    ) -> None:
        # procrastinate's queries do not name a schema.
        options = connection_options(conninfo, "wherry queue", f"-c search_path={SCHEMA}")
        connector = procrastinate.PsycopgConnector(
            conninfo=conninfo, min_size=1, max_size=concurrency + 4, kwargs=options
        )
        super().__init__(
            connector=connector,
            worker_defaults={
                "concurrency": concurrency,
                "fetch_job_polling_interval": POLL_SECONDS,
                "shutdown_graceful_timeout": STOP_GRACE_SECONDS,
                "update_heartbeat_interval": HEARTBEAT_SECONDS,
                "stalled_worker_timeout": STALLED_SECONDS,
                "delete_jobs": "successful",
            },
        )
        self.job_manager: FencedJobManager = FencedJobManager(connector)
        self._open_services = open_services
        self._slow = slow
        self._services: JobServices | None = None
        self._in_hand: Counter[int] = Counter()  # a process may fetch a row again that it has released
        self.task(name=RUN_JOB, pass_context=True, retry=GiveBack())(self._run_job)
        retention = self.task(
            name="wherry.retention", queue="maintenance", queueing_lock="wherry.retention", pass_context=False
        )(self._retain)
        self.periodic(cron=RETENTION_CRON)(retention)

    async def _run_job(self, context: JobContext, job_id: str) -> None:
        assert context.job.id is not None
        assert self._services is not None
        self._in_hand[context.job.id] += 1
        try:
            await self._services.execute(UUID(job_id))
        finally:
            self._in_hand -= Counter([context.job.id])
            self.job_manager.slots.free(context.job)

    async def _retain(self, timestamp: int) -> None:
        assert self._services is not None
        log.debug("retention starts", scheduledFor=timestamp)
        await self._services.retain()

    async def run_worker_async(self, **kwargs: Any) -> None:
        """Run workers until SIGINT or SIGTERM. If one loses the database, the next starts when the database is back."""
        kwargs["install_signal_handlers"] = False
        stopping = asyncio.Event()
        async with self._open_services() as self._services:
            with _on_stop_signal(stopping):
                while not stopping.is_set():
                    worker = self._worker(**kwargs)
                    queues = {*Kind, *(task.queue for task in self.tasks.values())}
                    self.job_manager.slots = Slots(worker.concurrency, queues, self._slow)
                    await self._run_until_stopped(worker, stopping)
                    if not worker.wait:
                        break
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), RECONNECT_SECONDS)

    async def _run_until_stopped(self, worker: Worker, stopping: asyncio.Event) -> None:
        companions = (
            asyncio.create_task(_stop_when(stopping, worker)),
            asyncio.create_task(rescue.keep_rescuing(self.job_manager, worker, self._in_hand)),
        )
        try:
            await worker.run()  # type: ignore[no-untyped-call]
        except ConnectorException as error:
            log.warning("the queue lost its database", error=str(error.__cause__ or error))
        finally:
            await _end_all(companions)
        if not stopping.is_set() and worker.wait:
            log.warning("the worker ended unexpectedly; starting another one")


async def _stop_when(stopping: asyncio.Event, worker: Worker) -> None:
    await stopping.wait()
    worker.stop()  # type: ignore[no-untyped-call]


async def _end_all(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end. A single cancel is not enough: a pool may mistake it for a timeout of its own."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _on_stop_signal(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
