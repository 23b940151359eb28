"""What a process asks of the operating system and of Python for itself, mostly so that the API stays responsive.

Processes that are started for one request import this module, so it imports little.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""Of at most 19: about a tenth of the CPU time of a competing process, and all of it if there is none."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Looked up at once: a child between fork and exec may call it, and must not import or allocate much.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with(parent: int, number: signal.Signals) -> None:
    """Send this process a signal when its parent ends; now, if it has ended already.

    Linux only (prctl(2)), where the thread that started the process counts as its parent.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


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


def do_bulk_work_for(parent: int) -> None:
    """Have this process killed when its parent ends, lower its priority, and confine it to half of the CPUs."""
    end_with(parent, signal.SIGKILL)
    give_way()
    leave_half_of_the_cpus()


def lower_thread(niceness: int) -> None:
    """Lower the calling thread's priority; outside of Linux, where threads have none, that of the process."""
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))


def share_threads_fairly() -> None:
    """Have threads hand over to each other more often than every 5 ms.

    While one thread decodes records, another sends some to the server, and needs Python for microseconds between waits.
    It waited for its turn for a third of an import's time.
    """
    sys.setswitchinterval(0.0005)


def allow_open_files(count: int) -> None:
    """Let this process have that many files and sockets open, or as many as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def collect_garbage_less_often() -> None:
    """Call this once the process has loaded its code, which is then excluded from garbage collection.

    Records and requests are tens of thousands of objects without cycles; scanning them took 10 % of an import's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
