"""The arguments and limits of a process that `child` starts, for use inside that process.

Such a process is started for every large request, so it should import little: asyncio alone takes as long to import as
everything else together.
"""

from __future__ import annotations

import gc
import resource
import signal
import sys

from wherry.this_process import end_with, give_way, leave_half_of_the_cpus

BASE_BYTES = 1 << 30
MEMORY_FACTOR = 6
TOO_MUCH_MEMORY = "takes far more memory than a graph of its size should"


def own_arguments() -> list[str]:
    """The arguments that were passed to `output_of`.

    From now on the process ends with its parent, has a low priority, and uses half of the CPUs. Garbage collection is
    turned off: JSON has no cycles, and searching tens of millions of small lists for them takes longer than everything
    else.
    """
    gc.disable()
    parent, *arguments = sys.argv[1:]
    end_with(int(parent), signal.SIGKILL)
    give_way()
    leave_half_of_the_cpus()
    return arguments


def limit_memory(body_bytes: int) -> None:
    """Limit this process's memory, so that MemoryError is raised if a body takes far more than usual.

    Graphs take two or three times their size; a body that is only `[],[],[]` takes thirty times its size.
    """
    limit = BASE_BYTES + MEMORY_FACTOR * body_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
