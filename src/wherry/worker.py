"""Composition root of the workers: `procrastinate --app=wherry.worker.app worker`, or `wherry worker`.

A worker runs imports, exports and capsules, and deletes what has expired.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from wherry.accounts import limits, repository
from wherry.capsules.runner import CapsuleRunner
from wherry.database.pooler import data_connections
from wherry.database.pools import Pool, make_pool
from wherry.database.worker_pool import WorkerPool
from wherry.errors import Misconfigured
from wherry.exports.runner import ExportRunner
from wherry.imports.runner import ImportRunner
from wherry.jobs.executor import Executor
from wherry.jobs.retention import Retention
from wherry.jobs.states import Kind
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.jobs.webhooks import Webhooks
from wherry.jobs.worker_app import JobServices, WorkerApp
from wherry.logs import configure_logs
from wherry.settings import Settings, load_settings
from wherry.storage.store import LONG_PATIENCE, Store
from wherry.tables.declarations import find_declarations
from wherry.tables.registry import Tables
from wherry.this_process import collect_garbage_less_often, give_way, share_threads_fairly

LAST_RESORT_SECONDS = 9.5
"""How long after a stop signal the process ends, whatever it does. A batch has 8 s, and the rest takes milliseconds."""


def make_worker_app(settings: Settings) -> WorkerApp:
    """The queue's application; it connects to the database only when a worker runs.

    Raises:
        Misconfigured: no database is set, or a storage path cannot be used.
    """
    conninfo, declarations = settings.require_database_url(), find_declarations(settings.tables_file)
    webhook_urls = WebhookUrls(settings)
    imports, exports, capsules = settings.open_roots(partial(Store, patience=LONG_PATIENCE))

    @asynccontextmanager
    async def open_services() -> AsyncIterator[JobServices]:
        collect_garbage_less_often()
        share_threads_fairly()
        # A job may use one connection for its batches and one for its progress.
        pool = make_pool(
            conninfo,
            name="wherry worker",
            max_size=2 * settings.job_worker_concurrency + 2,
            connection_class=data_connections(settings),
            kind=WorkerPool,
        )
        async with pool:
            tables = Tables(pool, declarations)
            executor = Executor(
                pool,
                {
                    Kind.IMPORT: ImportRunner(pool, tables, imports, settings),
                    Kind.EXPORT: ExportRunner(
                        pool, tables, settings.export_database_url or conninfo, exports, settings
                    ),
                    Kind.CAPSULE: CapsuleRunner(capsules, settings),
                },
            )
            retention = Retention(
                pool,
                {Kind.IMPORT: imports, Kind.CAPSULE: capsules},
                {Kind.EXPORT: exports, Kind.CAPSULE: capsules},
                import_keep=timedelta(hours=settings.import_retention_hours),
                job_keep=timedelta(days=settings.job_retention_days),
            )

            webhooks = Webhooks(pool, settings.webhook_key(), webhook_urls, settings.webhook_retry_seconds)

            def stop() -> None:
                executor.stop()
                _end_process_after(LAST_RESORT_SECONDS)

            yield JobServices(executor.execute, webhooks.deliver, partial(_retain, pool, retention), stop)

    return WorkerApp(
        settings.require_direct_url(),
        concurrency=settings.job_worker_concurrency,
        open_services=open_services,
        slow={Kind.CAPSULE},
    )


async def _retain(pool: Pool, retention: Retention) -> None:
    await retention.sweep()
    async with pool.connection() as connection:
        await limits.purge_counters(connection)
        await repository.purge_expired(connection)


def _end_process_after(seconds: float) -> None:
    """End the process then, if it still runs: a thread or a connection hangs. Other workers take over its jobs."""
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()


def __getattr__(name: str) -> WorkerApp:
    """Create `app` when it is first accessed, which procrastinate's command line does."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        settings = load_settings()
        configure_logs(settings)
        give_way()
        return make_worker_app(settings)
    except Misconfigured as error:
        sys.stderr.write(f"wherry: {error}\n")  # procrastinate would print a traceback
        sys.exit(2)
