"""Lets processes that answer people go before those that work through files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""Of at most 19: a tenth of the processor time of others if they want it, and all of it if they do not."""


def give_way() -> None:
    """Let other processes go first. Call it before threads are started; what is started later gives way, too."""
    lower_thread(NICENESS)
    # Linux may share time out among sessions first (sched(7), "The autogroup feature"): nice values then only count
    # within one. Not every system has the file, nor lets a container write to it; it serves as well without, if slower.
    if os.getsid(0) == os.getpid():
        with suppress(OSError), Path("/proc/self/autogroup").open("r+") as autogroup:
            autogroup.write(str(NICENESS))


def lower_thread(niceness: int) -> None:
    """Let other threads go before the calling one; outside Linux, where threads have no priority, its whole process."""
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
