"""Runs a blocking generator beside the event loop.

In: an iterator that reads, encodes, compresses. Out: the same chunks, awaited; the thread works ahead by a few.
The loop itself never blocks: the worker's heartbeat runs on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 3
"""Chunks that may wait: enough to hide the way to the loop and back, few enough to keep memory flat."""

STOP_SECONDS = 0.2
"""How often a thread that is to end is reminded."""


class OffLoop(AsyncIterator[bytes]):
    """The generator's chunks. `aclose` it whether or not it was read to its end.

    Args:
        chunks: runs in one thread of its own from beginning to end, its `close` too.
        stop: called from another thread until the generator gives up what it is waiting for.
    """

    def __init__(self, chunks: Generator[bytes, None, None], stop: Callable[[], None]) -> None:
        self._chunks = chunks
        self._stop = stop
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export")
        self._pending: deque[asyncio.Future[bytes | None]] = deque()

    async def __anext__(self) -> bytes:
        while len(self._pending) < AHEAD:
            self._pending.append(self._submit(self._next))
        chunk = await self._pending.popleft()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """End the thread, and with it whatever the generator holds."""
        closing = self._submit(self._chunks.close)  # queued behind whatever the thread is at
        while not closing.done():
            await asyncio.to_thread(self._stop)
            await asyncio.wait({closing}, timeout=STOP_SECONDS)
        for future in self._pending:
            if not future.cancelled():
                future.exception()  # it was stopped: what it says is no news
        self._pending.clear()
        self._thread.shutdown(wait=False)
        closing.result()

    def _next(self) -> bytes | None:
        return next(self._chunks, None)

    def _submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
