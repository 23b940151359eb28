"""Lowers the CPU priority of processes and threads that do bulk work, so that the API stays responsive."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""Of at most 19: about a tenth of the CPU time of a competing process, and all of it if there is none."""


def give_way() -> None:
    """Lower this process's priority. Call it before threads or processes are started, as they inherit it."""
    lower_thread(NICENESS)
    # Linux may divide CPU time among sessions first (sched(7), "The autogroup feature"); nice values then only count
    # within a session. The file may be missing, or read-only in a container: the process then just competes as usual.
    if os.getsid(0) == os.getpid():
        with suppress(OSError), Path("/proc/self/autogroup").open("r+") as autogroup:
            autogroup.write(str(NICENESS))


def leave_half_of_the_cpus() -> None:
    """Confine this process to half of its CPUs, if it has several. Call it before threads are started.

    Priority alone does not keep a CPU free: a process of low priority that runs when a request arrives may run on for
    some milliseconds, at each of the several times that the request moves between the API and PostgreSQL. Where the
    system cannot confine a process (macOS), this does nothing.
    """
    if sys.platform == "linux":
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[len(cpus) // 2 :])


def lower_thread(niceness: int) -> None:
    """Lower the calling thread's priority; outside of Linux, where threads have none, that of the process."""
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
