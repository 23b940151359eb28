"""Runs a writer process and watches it.

In: the writer's arguments. Out: its messages, with interpolated progress at least every second in between. The last
message is its result, or `Failed` if it exited early, hung, or ran out of time.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import msgspec

from wherry.memvid import sdk
from wherry.memvid.messages import Failed, Message, Progress, Stage

_SIGN_OF_LIFE = 1.0
_STARTING = Progress(Stage.WRITE_CAPSULE, 0.0, 0.01, 1.0, 60.0, "Starting the writer")
_LOG = "log"
_LOG_TAIL = 500
# The environment variables that a writer gets: in particular no credentials and no memvid settings.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
# One arena and small thresholds return memory between the stages: 330 MB instead of 400 at 29,000 frames.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

_decode = msgspec.json.Decoder(Message).decode


async def writer_messages(python: str, arguments: list[str], home: Path, deadline: float) -> AsyncGenerator[Message]:
    """Run a writer, and yield its progress and then its result. Closing the generator kills the process.

    Args:
        python: the interpreter.
        arguments: of `writer_process`, without the parent's process id.
        home: a new folder for the process's HOME, TMPDIR and log.
        deadline: when the process is killed, in the time of `time.monotonic`.
    """
    command = [python, "-m", "wherry.memvid.writer_process", *arguments, str(os.getpid())]
    process = await _started(command, home)
    try:
        assert process.stdout is not None
        last, heard = _STARTING, time.monotonic()
        yield last
        while True:
            tick = max(0.0, min(_SIGN_OF_LIFE, deadline - time.monotonic()))
            try:
                line = await asyncio.wait_for(process.stdout.readline(), tick)
            except TimeoutError:
                if (reason := _overdue(last, heard, deadline)) is not None:
                    yield Failed(reason)
                    return
                yield _creeping(last, time.monotonic() - heard)
                continue
            message = _decode(line) if line else await _failure(process, home)
            yield message
            if not isinstance(message, Progress):
                return
            last, heard = message, time.monotonic()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended, which asyncio learns a moment later
                os.killpg(process.pid, signal.SIGKILL)  # its whole session: a command that it runs must not outlive it
        await asyncio.shield(process.wait())


async def _started(command: list[str], home: Path) -> Process:
    folders = {"HOME": home / "home", "TMPDIR": home / "tmp"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with (home / _LOG).open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *command,
            env={**kept, **_ALLOCATOR, **sdk.ENVIRONMENT, **{name: str(folder) for name, folder in folders.items()}},
            cwd=home,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,
        )


def _overdue(last: Progress, heard: float, deadline: float) -> str | None:
    now = time.monotonic()
    if now >= deadline:
        return "the time limit was exceeded"
    return f"no sign of life for {last.within:.0f} s" if now - heard > last.within else None


async def _failure(process: Process, home: Path) -> Failed:
    """Why a writer has ended without a result."""
    code = await process.wait()
    log = await asyncio.to_thread((home / _LOG).read_bytes)
    tail = log[-_LOG_TAIL:].decode(errors="replace").strip()
    reason = f"the writer ended with {code}" + (f": {tail.splitlines()[-1]}" if tail else "")
    return Failed(reason, killed=code == -signal.SIGKILL)


def _creeping(last: Progress, silent: float) -> Progress:
    """The last message with a little more progress, always short of the progress expected in the next message."""
    share = 1 - math.exp(-silent / max(last.expected, 0.1))
    return msgspec.structs.replace(last, done=last.done + (last.until - last.done) * min(share, 0.95))
