"""Turns the stream of a capsule request's body into a queued job, or raises an exception and stores nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from wherry.capsules.offload import check_file
from wherry.capsules.process import Summary
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.database.queries import load
from wherry.errors import GraphTooLarge, QueueUnavailable, Refused, Unavailable
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.queue import submit
from wherry.jobs.states import Kind
from wherry.storage.store import Store
from wherry.storage.streams import limited
from wherry.storage.workspaces import workspace
from wherry.this_process import NICENESS, lower_thread

RESOURCE = "graph"
RETRY_SECONDS = 30

BODY_THREADS = 4
"""How many threads hash and write the bodies that arrive."""

CHUNKS_AT_ONCE = 8
"""How many chunks of a body are hashed and written in one call, in a thread."""

SMALL_CHECKS_AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
"""How many small bodies are checked at a time; they never wait for large ones. Half of the CPUs stay free."""

CHECKS_AT_ONCE = min(2, SMALL_CHECKS_AT_ONCE)
"""How many large bodies are checked at a time. Checking a crafted body can take hundreds of megabytes."""

SMALL_BYTES = 2 << 20


class Submissions:
    """Accepts capsule requests, and stores their bodies.

    Args:
        pool: of the database.
        store: for the bodies.
        max_body_bytes: the size limit of a body.
        capacity: how many jobs may be queued.
        webhook_url: called when a job ends.
    """

    def __init__(
        self, pool: Pool, store: Store, *, max_body_bytes: int, capacity: int, webhook_url: str | None = None
    ) -> None:
        self._pool = pool
        self._store = store
        self._max_body_bytes = max_body_bytes
        self._capacity = capacity
        self._webhook_url = webhook_url
        self._threads = ThreadPoolExecutor(
            BODY_THREADS, thread_name_prefix="graph-bodies", initializer=lower_thread, initargs=(NICENESS,)
        )
        self._large_checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._small_checks = asyncio.Semaphore(SMALL_CHECKS_AT_ONCE)

    async def hand_in(
        self, body: AsyncIterable[bytes], *, declared_bytes: int | None, idempotency_key: str | None
    ) -> tuple[Job, bool]:
        """Store, check and queue a request. Returns the job, and whether it was replayed.

        Raises:
            GraphTooLarge, Malformed, EmptyGraph, Invalid: it is not a valid capsule request.
            QueueUnavailable: the queue is full.
            StorageUnavailable: a disk is full.
        """
        if declared_bytes is not None and declared_bytes > self._max_body_bytes:
            raise self._too_large()
        if idempotency_key is None:  # with a key it may be a replay, which needs no room
            async with self._pool.connection() as connection:
                await self._require_room(connection, waiting_allowed=self._capacity - 1)
        with workspace() as folder:
            file = folder / "request.json"
            digest, size = await self._spool(body, file)
            async with self._small_checks if size <= SMALL_BYTES else self._large_checks:
                summary = await check_file(file, size)
            return await self._queue(file, digest, summary, idempotency_key)

    async def _spool(self, body: AsyncIterable[bytes], file: Path) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        digest = hashlib.sha256()
        waiting: list[bytes] = []
        with file.open("wb") as out:

            def keep(chunks: list[bytes]) -> None:
                for chunk in chunks:
                    digest.update(chunk)
                    out.write(chunk)

            async for chunk in limited(body, self._max_body_bytes, self._too_large):
                waiting.append(chunk)
                if len(waiting) == CHUNKS_AT_ONCE:
                    await loop.run_in_executor(self._threads, keep, waiting)
                    waiting = []
            await loop.run_in_executor(self._threads, keep, waiting)
            return digest.hexdigest(), out.tell()

    async def _queue(self, file: Path, digest: str, summary: Summary, key: str | None) -> tuple[Job, bool]:
        job_id = new_job_id()
        source_key = f"{job_id}/request.json"
        stored = await self._store.move_file(source_key, file, sha256=digest)
        new = NewJob(
            id=job_id,
            kind=Kind.CAPSULE,
            owner_id=None,
            resource=RESOURCE,
            format="mv2",
            options=msgspec.to_builtins(summary),
            source={"key": source_key, "size": stored.size, "sha256": digest},
            idempotency_key=key,
            fingerprint=digest,
            message="Queued for export",
            webhook_url=self._webhook_url,
        )
        try:
            async with brief_transaction(self._pool) as connection:
                await connection.execute(load("capsules")["lock_queue"])  # concurrent requests cannot overfill it
                job, replayed = await submit(connection, new)
                if not replayed:
                    await self._require_room(connection, waiting_allowed=self._capacity)
        except (Refused, Unavailable):
            await self._store.delete(source_key)
            raise  # after any other error the job may exist; if not, retention removes the file
        if replayed:
            await self._store.delete(source_key)
        return job, replayed

    async def _require_room(self, connection: Connection, *, waiting_allowed: int) -> None:
        if await ledger.count_queued(connection, Kind.CAPSULE) > waiting_allowed:
            message = f"the capsule queue is full ({self._capacity} jobs)"
            raise QueueUnavailable(message, headers={"Retry-After": str(RETRY_SECONDS)})

    def _too_large(self) -> GraphTooLarge:
        return GraphTooLarge(f"the body may have at most {self._max_body_bytes} bytes", field="body")
