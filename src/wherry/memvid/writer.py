"""Writes capsules: the part that runs in a worker.

The SDK's native calls cannot be interrupted, and some have hung. So each capsule is written by a separate process,
which is watched, is killed if it is overdue or the job is cancelled, and ends with its parent. Three ways are tried in
order (see `ways`). The destination file appears only after all checks have passed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from wherry.errors import CapsuleFailed, TooManyFrames
from wherry.memvid import sdk
from wherry.memvid.capacity import CAPACITY
from wherry.memvid.messages import CapsuleTooLarge, Failed, Finished, Progress, Stage, Way
from wherry.memvid.watched import writer_messages

# Start and end of each stage as a share of the whole. Measured on 9,656 frames: 5, 85 and 10 % of the time.
_SPANS = {Stage.FRAME_PREP: (0.0, 0.1), Stage.WRITE_CAPSULE: (0.1, 0.9), Stage.FINALIZE: (0.9, 1.0)}


class WriterEvent(msgspec.Struct, frozen=True):
    """Progress of a capsule, from 0 to 1; that of the whole never decreases.

    `failed` means that this way has failed, and that the next one is tried.
    """

    stage: Stage
    progress: float
    stage_progress: float
    message: str
    way: Way | None = None
    failed: bool = False


class WrittenCapsule(msgspec.Struct, frozen=True):
    """A capsule on disk; see `Finished`. `version` is the name and version of the SDK that wrote it."""

    path: Path
    size: int
    sha256: str
    frames: int
    way: Way
    search: str
    version: str


OnProgress = Callable[[WriterEvent], Awaitable[None] | None]


async def write_capsule(
    spool: Path,
    frames: int,
    destination: Path,
    *,
    workspace: Path,
    on_progress: OnProgress,
    python: str = sys.executable,
    advice: Callable[[int], str] = lambda fits: "",
    time_limit: float = 3600.0,
    ways: Iterable[Way] = tuple(Way),
) -> WrittenCapsule:
    """Write the frames of a spool into a new capsule at `destination`, which is replaced if it exists.

    Cancelling kills the writer at once and removes everything it has written.

    Args:
        spool: is only read. If its frames exceed a capsule's capacity, the rest may be left out.
        frames: how many there are, including those that were left out.
        workspace: a folder for temporary files, preferably on the destination's file system.
        on_progress: called, and awaited, at least about once a second.
        advice: tells the job's owner what to do if only this many of the first frames, and the last one, fit.
        time_limit: in seconds, for all ways together.

    Raises:
        TooManyFrames: the frames do not fit; its detail contains `fits` and `frames`.
        CapsuleFailed: no way worked; its detail contains the reason for each.
        OSError: the disk is full, or another system error.
    """
    if not frames:
        raise CapsuleFailed("there are no frames to write")
    await asyncio.to_thread(workspace.mkdir, parents=True, exist_ok=True)
    room = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="capsule-", dir=workspace))
    try:
        job = _Job(spool, frames, room, on_progress, python, time.monotonic() + time_limit)
        finished, way = await job.try_ways(ways, advice)
        await asyncio.to_thread(shutil.move, job.capsule, destination)
        version = f"{sdk.DISTRIBUTION} {sdk.installed_version()}"
        return WrittenCapsule(destination, finished.size, finished.sha256, frames, way, finished.search, version)
    finally:
        # Shielded, so that nothing is left even if the task is cancelled a second time.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, room, ignore_errors=True))


class _Job:
    def __init__(
        self, spool: Path, frames: int, room: Path, on_progress: OnProgress, python: str, deadline: float
    ) -> None:
        self._spool = spool.absolute()  # the writer runs in another directory
        self._frames = frames
        self._room = room
        self._on_progress = on_progress
        self._python = python
        self._deadline = deadline
        self._progress = 0.0
        self.capsule = room / "capsule.mv2"

    async def try_ways(self, ways: Iterable[Way], advice: Callable[[int], str]) -> tuple[Finished, Way]:
        """Try the ways in order. Returns the result of the first that produces a verified capsule."""
        await self._emit(Stage.FRAME_PREP, 1.0, f"Prepared {self._frames} frames")
        reasons: dict[str, str] = {}
        for way in ways:
            answer = await self._try_twice(way)
            if isinstance(answer, Finished):
                await self._emit(Stage.FINALIZE, 1.0, f"Wrote and verified {self._frames} frames", way)
                return answer, way
            if isinstance(answer, CapsuleTooLarge):
                fits = f"a capsule's free capacity of {CAPACITY:,} bytes; the first {answer.fits} would."
                message = f"{self._frames} frames do not fit {fits} {advice(answer.fits)}".rstrip()
                raise TooManyFrames(message, frames=self._frames, fits=answer.fits)
            if answer.errno is not None:
                raise OSError(answer.errno, os.strerror(answer.errno))
            reasons[way.value] = answer.reason
            if time.monotonic() >= self._deadline:
                break
        raise CapsuleFailed("the capsule could not be written", ways=reasons)

    async def _try_twice(self, way: Way) -> Finished | Failed | CapsuleTooLarge:
        """Try one way, and try it again if its process was killed from outside, which says nothing about the way."""
        for attempt in ("first", "second"):
            answer = await self._try(way, attempt)
            if not isinstance(answer, Failed):
                break
            message = f"Writing the capsule failed ({way.value}): {answer.reason}"
            await self._emit(Stage.WRITE_CAPSULE, 0.0, message, way, failed=True)
            if not answer.killed or time.monotonic() >= self._deadline:
                break
        return answer

    async def _try(self, way: Way, attempt: str) -> Finished | Failed | CapsuleTooLarge:
        self.capsule.unlink(missing_ok=True)
        arguments = [way.value, str(self._spool), str(self.capsule), str(self._frames)]
        home = self._room / f"{way.value}-{attempt}"
        async with aclosing(writer_messages(self._python, arguments, home, self._deadline)) as messages:
            async for message in messages:
                if isinstance(message, Failed):
                    return msgspec.structs.replace(message, reason=message.reason.replace(str(self._room), "…"))
                if not isinstance(message, Progress):
                    return message
                await self._emit(message.stage, message.done, message.message, way)
        raise CapsuleFailed("the writer ended without a result")

    async def _emit(
        self, stage: Stage, done: float, message: str, way: Way | None = None, *, failed: bool = False
    ) -> None:
        start, end = _SPANS[stage]
        self._progress = max(self._progress, start + (end - start) * done)
        awaitable = self._on_progress(WriterEvent(stage, self._progress, done, message, way, failed))
        if awaitable is not None:
            await awaitable
