"""The arguments and limits of a process that `child` starts, for use inside that process.

Such a process is started for every large request, so it should import little: asyncio alone takes as long to import as
everything else together.
"""

from __future__ import annotations

import gc
import resource
import signal
import sys

from wherry.parents import end_with
from wherry.priority import give_way, leave_half_of_the_cpus

MEMORY_BYTES = 384 << 20
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


def limit_memory() -> None:
    """Limit this process's memory, not counting mapped files, so that MemoryError is raised if a graph takes more.

    Only a body that was made for it does: one with a single node that is hundreds of megabytes long, for example.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
