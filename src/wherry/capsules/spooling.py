"""Writes frames to a spool without holding up the event loop.

In: frames, from a plain or an asynchronous iterable. Out: a spool file, and word of how many frames are in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from threading import Event

from wherry.capsules.frame import Frame
from wherry.capsules.spool import Spool

_TELL_EVERY = 0.5
_CHUNK = 500


async def spool_frames(
    frames: Iterable[Frame] | AsyncIterable[Frame], path: Path, tell: Callable[[int], Awaitable[None]]
) -> int:
    """Write all frames to a new file, and give back how many there were.

    Args:
        frames: consumed in a thread, or, where asynchronous, written by one in chunks.
        path: must not exist yet.
        tell: awaited twice a second with the number so far.
    """
    stop = Event()
    with Spool(path) as spool:
        work = (
            _feed(frames, spool) if isinstance(frames, AsyncIterable) else asyncio.to_thread(_fill, frames, spool, stop)
        )
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_TELL_EVERY))[0]:
                await tell(spool.frames)
            await task
        finally:
            # A thread cannot be cancelled: it is told, and stops at the next frame.
            stop.set()
            if isinstance(frames, AsyncIterable):
                task.cancel()
            await asyncio.wait({task})
        await tell(spool.frames)
        return spool.frames


def _fill(frames: Iterable[Frame], spool: Spool, stop: Event) -> None:
    spool.add(_until(frames, stop))


def _until(frames: Iterable[Frame], stop: Event) -> Iterator[Frame]:
    for frame in frames:
        if stop.is_set():
            return
        yield frame


async def _feed(frames: AsyncIterable[Frame], spool: Spool) -> None:
    chunk: list[Frame] = []
    async for frame in frames:
        chunk.append(frame)
        if len(chunk) == _CHUNK:
            await asyncio.to_thread(spool.add, chunk)
            chunk = []
    await asyncio.to_thread(spool.add, chunk)
