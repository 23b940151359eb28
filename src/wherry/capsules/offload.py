"""Checks requests and turns them into frames, each in a separate process (see `process`).

This keeps the memory of the API and the worker flat, and their event loops free. A process is killed if the task
that awaits it is cancelled, or if its parent ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from wherry.capsules.process import Report, Summary, Transformed, summarise
from wherry.errors import (
    EXPORT_FAILED,
    EmptyGraph,
    GraphTooLarge,
    Invalid,
    JobFailed,
    Malformed,
    QueueUnavailable,
    Refused,
)
from wherry.waiting import beside_the_loop

BASE_SECONDS = 60.0
BYTES_PER_SECOND = 1 << 20

IN_PROCESS_BYTES = 1 << 19
"""Bodies up to this size are checked in a thread, which is faster than starting a process."""

_KINDS: dict[str, type[Refused]] = {kind.code: kind for kind in (Malformed, EmptyGraph, Invalid, GraphTooLarge)}


async def check_file(path: Path, size: int) -> Summary:
    """Read the request in `path`, which has `size` bytes.

    Raises:
        Malformed: it is not JSON.
        EmptyGraph: it has no nodes, or no relationships.
        Invalid: it has the wrong shape; the message names the place.
        GraphTooLarge: it takes far more memory or time than a graph of its size should.
        QueueUnavailable: the process that reads it was killed.
    """
    if size <= IN_PROCESS_BYTES:
        return await asyncio.to_thread(summarise, path)
    seconds = _time_limit(size)
    try:
        output = await _output_of("check", path, seconds=seconds)
    except TimeoutError:
        detail = f"checking the graph took more than {seconds:.0f} s, the limit for its size"
        raise GraphTooLarge(detail, field="body") from None
    if output is None:
        raise QueueUnavailable("the graph could not be checked; try again")
    return _opened(msgspec.json.decode(output, type=Report))


def _opened(report: Report) -> Summary:
    if report.refused is not None:
        raise _KINDS[report.refused.code](report.refused.detail, fields=report.refused.fields)
    assert report.summary is not None
    return report.summary


async def transform(request: Path, spool: Path) -> Transformed:
    """Write the request's frames.

    Args:
        request: the file with the body.
        spool: the file for the frames; must not exist yet.

    Raises:
        JobFailed: the request cannot be read, or takes too long, or the process ended early.
        OSError: a disk error in the process.
    """
    seconds = _time_limit((await asyncio.to_thread(request.stat)).st_size)
    try:
        output = await _output_of("transform", request, spool, seconds=seconds)
    except TimeoutError:
        message = f"The graph could not be turned into frames within {seconds:.0f} s, the limit for its size"
        raise JobFailed(EXPORT_FAILED, message) from None
    if output is None:
        raise JobFailed(EXPORT_FAILED, "The graph could not be turned into frames: its process ended early")
    result = msgspec.json.decode(output, type=Transformed)
    if result.refused is not None:
        raise JobFailed(EXPORT_FAILED, f"The graph cannot be read: {result.refused}")
    if result.errno is not None:
        raise OSError(result.errno, os.strerror(result.errno))
    return result


def _time_limit(body_bytes: int) -> float:
    """Seconds that a process may take for a body: several times what the slowest genuine graph of that size takes."""
    return BASE_SECONDS + body_bytes / BYTES_PER_SECOND


async def _output_of(command: str, *files: Path, seconds: float) -> bytes | None:
    """Run a command of `process`. Returns its standard output, or None if it failed.

    The process is started with `subprocess`, in a thread, because uvloop would copy this process's page tables and
    block the event loop until the new program starts.

    Raises:
        TimeoutError: it took longer than `seconds` and was killed.
    """
    module = [sys.executable, "-m", "wherry.capsules.process"]
    run = _Run([*module, str(os.getpid()), command, *map(str, files)], seconds)
    return await beside_the_loop(run.output, stop=run.end)


class _Run:
    """One child process, and the call that waits for it in a thread."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._command = command
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def output(self) -> bytes | None:
        with subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # because CPU time may be divided among sessions: see `give_way`
        ) as self._process:
            try:
                output, _ = self._process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                self._process.kill()  # has no effect if it has exited
        return output if self._process.returncode == 0 else None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
