"""Ends a process with its parent.

In: the parent's process id. Out: a signal, from the kernel, when the parent has ended. Linux only (prctl(2)),
where the thread that started the process counts as its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Looked up at once: a child between fork and exec may call it, and must not import or allocate much.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with(parent: int, number: signal.Signals) -> None:
    """Send this process a signal when its parent ends; now, if it has ended already."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
