"""Runs a module of ours in a process of its own, which ends with the task that waits for it, and with this process.

In: the module's name and its arguments. Out: what it prints on standard output.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys

from wherry.parents import end_with

BASE_BYTES = 1 << 30
MEMORY_FACTOR = 6
BASE_SECONDS = 60.0
BYTES_PER_SECOND = 1 << 20
TOO_MUCH_MEMORY = "takes far more memory than a graph of its size"


def time_limit(body_bytes: int) -> float:
    """Seconds that a process may take for a body: several times what the slowest honest one of its size takes."""
    return BASE_SECONDS + body_bytes / BYTES_PER_SECOND


async def output_of(module: str, *arguments: str, seconds: float) -> bytes | None:
    """Run `python -m module` to its end; None where that is not a good one.

    Raises:
        TimeoutError: it took longer than `seconds`, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, str(os.getpid()), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    return output if process.returncode == 0 else None


def own_arguments() -> list[str]:
    """In the process: what `output_of` was given; from here on the process ends with its parent.

    It collects no garbage: JSON has no cycles, and looking for them takes most of the time that tens of millions of
    small lists take.
    """
    gc.disable()
    parent, *arguments = sys.argv[1:]
    end_with(int(parent), signal.SIGKILL)
    return arguments


def limit_memory(body_bytes: int) -> None:
    """In the process: raise MemoryError where a body takes far more than bodies do.

    Graphs take two or three times their size; a body of nothing but `[],[],[]` takes thirty times as much.
    """
    limit = BASE_BYTES + MEMORY_FACTOR * body_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
