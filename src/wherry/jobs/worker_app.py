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
from datetime import timedelta
from typing import Any
from uuid import UUID

import procrastinate
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job as QueueJob
from procrastinate.middleware import AsyncCallNext
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker

from wherry.database.pools import check_rested, connection_options
from wherry.database.schema import SCHEMA
from wherry.database.worker_pool import WorkerPool
from wherry.errors import DeliveryFailed, JobReleased
from wherry.jobs import rescue
from wherry.jobs.queue import RUN_JOB
from wherry.jobs.queue_listening import ListeningJobManager
from wherry.jobs.rescue import STALLED_SECONDS
from wherry.jobs.slots import MAINTENANCE, SIDE_SLOTS, WEBHOOKS, Slots
from wherry.jobs.states import Kind
from wherry.times import now

HEARTBEAT_SECONDS = 5.0
POLL_SECONDS = 1.0
"""Usually a notification is faster. Short, because some are lost: while the worker reconnects, or just fetches."""

STOP_GRACE_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
CANCEL_SECONDS = 1.0

CUT_SECONDS = 2.0
"""How long a worker that stops, and runs no task any more, waits for its queue: normally, that takes milliseconds."""

SESSION_OPTIONS = f"-c search_path={SCHEMA} -c plan_cache_mode=force_generic_plan -c synchronous_commit=off"
"""procrastinate's queries do not name a schema. Planning the statement that fetches takes longer than running it. And
only the ledger waits for the disk: if the server crashes and forgets who holds a row, or that its run has ended, rescue
queues the row again, and the ledger knows whether its job has ended."""

TCP_USER_TIMEOUT_MS = 10_000
"""How long the kernel repeats packets that are not acknowledged; by default, a quarter of an hour. Only the queue's
connections have this limit, because it also ends a connection whose server is slow to read, as during a long COPY."""

RETENTION = "wherry.retention"
RETENTION_CRON = "*/5 * * * *"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobServices:
    """What a worker process does. Opened once per process.

    Attributes:
        execute: runs a job to its end; called with its id and that of its queue row.
        deliver: delivers a webhook event; called with its id.
        retain: removes what has expired.
        stop: called once when the process is told to stop. Jobs are then to end at their next checkpoint.
    """

    execute: Callable[[UUID, int], Awaitable[None]]
    deliver: Callable[[str], Awaitable[None]]
    retain: Callable[[], Awaitable[None]]
    stop: Callable[[], None]


OpenServices = Callable[[], AbstractAsyncContextManager[JobServices]]


class GiveBack(BaseRetryStrategy):
    """Retries every run that raises: at once if it was interrupted, a delivery when it says, otherwise after a pause.

    The number of retries is not limited here: the executor fails a job whose workers die too often at one checkpoint,
    and a webhook that is given up does not raise.
    """

    def get_retry_decision(self, *, exception: BaseException, job: QueueJob) -> RetryDecision:
        match exception:
            case JobReleased() | asyncio.CancelledError():
                wait = 0.0
            case DeliveryFailed(retry_seconds=wait):
                pass
            case _:
                wait = min(2**job.attempts, 30)
        return RetryDecision(retry_at=now() + timedelta(seconds=wait))


class WorkerApp(procrastinate.App):
    """A procrastinate application whose workers run wherry's jobs.

    Args:
        concurrency: how many jobs a process runs at a time, unless the command line overrides it. `SIDE_SLOTS` more
            are for other tasks.
        open_services: opens pools, storage and runners when a worker starts, and closes them when it ends.
        slow: kinds whose jobs may take minutes each; they get at most half of the slots.
    """

    def __init__(
        self, conninfo: str, *, concurrency: int, open_services: OpenServices, slow: Collection[Kind] = ()
    ) -> None:
        options = connection_options(conninfo, "wherry queue", SESSION_OPTIONS)
        connector = procrastinate.PsycopgConnector(
            conninfo=conninfo,
            min_size=1,
            max_size=concurrency + 4,
            kwargs={"autocommit": True, **options, "tcp_user_timeout": TCP_USER_TIMEOUT_MS},
            pool_factory=_make_pool,
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
                "worker_middleware": [self._keep_in_hand],
            },
        )
        self._connector = connector
        self.job_manager: ListeningJobManager = ListeningJobManager(connector, conninfo)
        self._open_services = open_services
        self._slow = slow
        self._services: JobServices | None = None
        self._in_hand: Counter[int] = Counter()  # a process may fetch a row again that it has released
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.task(name=RUN_JOB, pass_context=True, retry=GiveBack())(self._run_job)
        self.task(name="wherry.deliver", queue=WEBHOOKS, retry=GiveBack())(self._deliver)
        retention = self.task(name=RETENTION, queue=MAINTENANCE, queueing_lock=RETENTION)(self._retain)
        self.periodic(cron=RETENTION_CRON)(retention)
        assert not any(task.lock for task in self.tasks.values()), "wherry's statement that fetches ignores them"

    @property
    def _pool(self) -> WorkerPool:
        pool = self._connector.pool
        assert isinstance(pool, WorkerPool)
        return pool

    async def _keep_in_hand(self, run_task: AsyncCallNext, context: JobContext, worker: Worker) -> Any:
        """Run a task of any kind; meanwhile, its queue row is in hand, so that it is not taken for a forgotten one."""
        assert context.job.id is not None
        _log_failure_of(asyncio.current_task())
        self._in_hand[context.job.id] += 1
        self._is_idle.clear()
        try:
            return await run_task()
        finally:
            self._in_hand -= Counter([context.job.id])
            if not self._in_hand:
                self._is_idle.set()
            await self.job_manager.free(context.job)

    async def _run_job(self, context: JobContext, job_id: str) -> None:
        assert self._services is not None
        assert context.job.id is not None
        await self._services.execute(UUID(job_id), context.job.id)

    async def _deliver(self, event_id: str) -> None:
        assert self._services is not None
        await self._services.deliver(event_id)

    async def _retain(self, timestamp: int) -> None:
        assert self._services is not None
        log.debug("retention starts", scheduledFor=timestamp)
        await self._services.retain()

    async def run_worker_async(self, **kwargs: Any) -> None:
        """Run workers until SIGINT or SIGTERM. If one loses the database, the next starts when the database is back."""
        kwargs |= {"install_signal_handlers": False, "listen_notify": True}
        stopping = asyncio.Event()
        async with self._open_services() as self._services:
            companions = (
                asyncio.create_task(self._stop(stopping, self._services), name="stop"),
                asyncio.create_task(self.job_manager.listen(), name="listen"),
                asyncio.create_task(self._recover(), name="recover"),
            )
            try:
                with _on_stop_signal(stopping):
                    await self._run_workers(stopping, kwargs)
            finally:
                await _end_all(companions)

    async def _stop(self, stopping: asyncio.Event, services: JobServices) -> None:
        """Once told to stop, have the jobs end; then, do not wait long for the queue."""
        await stopping.wait()
        services.stop()
        await self._is_idle.wait()
        await asyncio.sleep(CUT_SECONDS)
        log.warning("the queue does not respond: the worker stops without it")
        await self._pool.cut_off()

    async def _recover(self) -> None:
        """Whenever the server responds again, end statements that wait for it on a link that is still dropped."""
        while True:
            await self.job_manager.has_connected.wait()
            self.job_manager.has_connected.clear()
            await self._pool.sever_stuck()

    async def _run_workers(self, stopping: asyncio.Event, options: dict[str, Any]) -> None:
        while not stopping.is_set():
            worker = self._worker(**options)
            queues = worker.queues or {*Kind, *(task.queue for task in self.tasks.values())}
            self.job_manager.tasks = sorted(self.tasks)
            self.job_manager.slots = Slots(worker.concurrency, set(queues), self._slow)
            worker.concurrency += SIDE_SLOTS
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


def _make_pool(**arguments: Any) -> WorkerPool:
    """A pool for procrastinate, which would have it check each connection that it hands out."""
    return WorkerPool(**{**arguments, "check": check_rested})


def _log_failure_of(processing: asyncio.Task[Any] | None) -> None:
    """Log why a queue row could not be written after its task, because procrastinate does not. It is rescued later."""

    def log_failure(ended: asyncio.Task[Any]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None:
            log.warning("the queue row of a task could not be written", error=str(error.__cause__ or error))

    assert processing is not None
    processing.add_done_callback(log_failure)


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
