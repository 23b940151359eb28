"""In a process that `child` starts: its arguments and its limits.

It imports little, as it is started for every large request: asyncio alone takes as long as everything else together.
"""

from __future__ import annotations

import gc
import resource
import signal
import sys

from wherry.parents import end_with
from wherry.priority import give_way

BASE_BYTES = 1 << 30
MEMORY_FACTOR = 6
TOO_MUCH_MEMORY = "takes far more memory than a graph of its size should"


def own_arguments() -> list[str]:
    """In the process: what `output_of` was given; from here on the process ends with its parent, and gives way to it.

    It collects no garbage: JSON has no cycles, and looking for them takes most of the time that tens of millions of
    small lists take.
    """
    gc.disable()
    parent, *arguments = sys.argv[1:]
    end_with(int(parent), signal.SIGKILL)
    give_way()
    return arguments


def limit_memory(body_bytes: int) -> None:
    """In the process: raise MemoryError where a body takes far more than bodies do.

    Graphs take two or three times their size; a body of nothing but `[],[],[]` takes thirty times as much.
    """
    limit = BASE_BYTES + MEMORY_FACTOR * body_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
