"""Runs a writer process and watches it.

In: the writer's arguments. Out: its messages, with interpolated progress at least every second in between. The last
message is its result, or `Failed` if it exited early, hung, or ran out of time. The process never outlives the block
that started it.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from wherry.memvid import sdk
from wherry.memvid.messages import Failed, Message, Progress, Stage

_SIGN_OF_LIFE = 1.0
_STARTING = Progress(Stage.WRITE_CAPSULE, 0.0, 0.01, 1.0, 60.0, "Starting the writer")
_LOG_TAIL = 500
# The environment variables that a writer gets: in particular no credentials and no memvid settings.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
# One arena and small thresholds return memory between the stages: 330 MB instead of 400 at 29,000 frames.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Watched:
    """A writer process that runs for the duration of an `async with` block.

    Args:
        python: the interpreter.
        arguments: of `writer_process`, without the parent's process id.
        home: a new folder for the process's HOME, TMPDIR and log.
        deadline: when the process is killed, in the time of `time.monotonic`.
    """

    def __init__(self, python: str, arguments: list[str], home: Path, deadline: float) -> None:
        self._command = [python, "-m", "wherry.memvid.writer_process", *arguments, str(os.getpid())]
        self._home = home
        self._log = home / "log"
        self._deadline = deadline
        self._decode = msgspec.json.Decoder(Message).decode
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        home, temporary = self._home / "home", self._home / "tmp"
        for folder in (home, temporary):
            folder.mkdir(parents=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**kept, **_ALLOCATOR, **sdk.ENVIRONMENT, "HOME": str(home), "TMPDIR": str(temporary)},
                cwd=self._home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        # Kill its whole session: a command that it runs must not outlive it.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the writer has not been started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session."""
        return self._running().pid

    async def messages(self) -> AsyncIterator[Message]:
        """Progress messages, then the result, which is the last message."""
        stream = self._running().stdout
        if stream is None:
            raise RuntimeError("the writer's output is not a pipe")
        last, heard = _STARTING, time.monotonic()
        yield last
        while True:
            try:
                line = await asyncio.wait_for(stream.readline(), self._next_tick())
            except TimeoutError:
                if (reason := self._overdue(last, heard)) is not None:
                    yield Failed(reason)
                    return
                yield _creeping(last, time.monotonic() - heard)
                continue
            if not line:
                yield await self._ended()
                return
            message = self._decode(line)
            yield message
            if not isinstance(message, Progress):
                return
            last, heard = message, time.monotonic()

    def _next_tick(self) -> float:
        return max(0.0, min(_SIGN_OF_LIFE, self._deadline - time.monotonic()))

    def _overdue(self, last: Progress, heard: float) -> str | None:
        now = time.monotonic()
        if now >= self._deadline:
            return "the time limit was exceeded"
        return f"no sign of life for {last.within:.0f} s" if now - heard > last.within else None

    async def _ended(self) -> Failed:
        code = await self._running().wait()
        tail = (await asyncio.to_thread(self._log.read_bytes))[-_LOG_TAIL:].decode(errors="replace").strip()
        reason = f"the writer ended with {code}" + (f": {tail.splitlines()[-1]}" if tail else "")
        return Failed(reason, killed=code == -signal.SIGKILL)


def _creeping(last: Progress, silent: float) -> Progress:
    """The last message with a little more progress, always short of the progress expected in the next message."""
    share = 1 - math.exp(-silent / max(last.expected, 0.1))
    return msgspec.structs.replace(last, done=last.done + (last.until - last.done) * min(share, 0.95))
