"""Checks requests and turns them into frames, each in a separate process (see `process`).

This keeps the memory of the API and the worker flat, and their event loops free. A process is killed if the task
that awaits it is cancelled, or if its parent ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from wherry.capsules.process import Output, Summary, Transformed, summarise
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
        Malformed, EmptyGraph, Invalid: see `read_graph`.
        GraphTooLarge: it takes far more memory or time than a graph of its size should.
        QueueUnavailable: the process that reads it was killed.
    """
    if size <= IN_PROCESS_BYTES:
        return await asyncio.to_thread(summarise, path)
    seconds = _time_limit(size)
    try:
        output = await _output_of("check", path, seconds=seconds)
    except subprocess.TimeoutExpired:
        detail = f"checking the graph took more than {seconds:.0f} s, the limit for its size"
        raise GraphTooLarge(detail, field="body") from None
    if output is None:
        raise QueueUnavailable("the graph could not be checked; try again")
    if output.refusal is not None:
        raise _KINDS[output.refusal.code](output.refusal.detail, fields=output.refusal.fields)
    assert output.summary is not None
    return output.summary


async def transform(request: Path, spool: Path) -> Transformed:
    """Write the frames of the request, whose body is in a file, to a new spool.

    Raises:
        JobFailed: the request cannot be read, or takes too long, or the process ended early.
        OSError: a disk error in the process.
    """
    seconds = _time_limit((await asyncio.to_thread(request.stat)).st_size)
    try:
        output = await _output_of("transform", request, spool, seconds=seconds)
    except subprocess.TimeoutExpired:
        message = f"The graph could not be turned into frames within {seconds:.0f} s, the limit for its size"
        raise JobFailed(EXPORT_FAILED, message) from None
    if output is None:
        raise JobFailed(EXPORT_FAILED, "The graph could not be turned into frames: its process ended early")
    if output.refusal is not None:
        raise JobFailed(EXPORT_FAILED, f"The graph cannot be read: {output.refusal.detail}")
    if output.errno is not None:
        raise OSError(output.errno, os.strerror(output.errno))
    assert output.transformed is not None
    return output.transformed


def _time_limit(body_bytes: int) -> float:
    """Seconds that a process may take for a body: several times what the slowest genuine graph of that size takes."""
    return BASE_SECONDS + body_bytes / BYTES_PER_SECOND


async def _output_of(command: str, *files: Path, seconds: float) -> Output | None:
    """Run a command of `process`. Returns what it prints, or None if it failed.

    The process is started with `subprocess`, in a thread, because uvloop would copy this process's page tables and
    block the event loop until the new program starts. After `seconds` it is killed, and TimeoutExpired is raised.
    """
    arguments = [sys.executable, "-m", "wherry.capsules.process", str(os.getpid()), command, *map(str, files)]
    running: list[subprocess.Popen[bytes]] = []

    def run() -> Output | None:
        # A session of its own, because CPU time may be divided among sessions: see `give_way`.
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            running.append(process)
            try:
                printed, _ = process.communicate(timeout=seconds)
            finally:
                process.kill()  # has no effect if it has exited
        return msgspec.json.decode(printed, type=Output) if process.returncode == 0 else None

    def stop() -> None:
        for process in running:
            process.kill()

    return await beside_the_loop(run, stop=stop)
