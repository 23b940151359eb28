"""Runs one of our modules in a child process and returns its standard output.

The child is killed if the task that awaits it is cancelled, or if this process ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from wherry.waiting import beside_the_loop

BASE_SECONDS = 60.0
BYTES_PER_SECOND = 1 << 20


def time_limit(body_bytes: int) -> float:
    """Seconds that a process may take for a body: several times what the slowest genuine graph of that size takes."""
    return BASE_SECONDS + body_bytes / BYTES_PER_SECOND


async def output_of(module: str, *arguments: str, seconds: float) -> bytes | None:
    """Run `python -m module`. Returns its standard output, or None if it failed.

    It is started from a thread, because Python's `subprocess` does not copy this process's page tables. uvloop would
    copy them, and block the event loop until the new program starts.

    Raises:
        TimeoutError: it took longer than `seconds` and was killed.
    """
    run = _Run([sys.executable, "-m", module, str(os.getpid()), *arguments], seconds)
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
            start_new_session=True,  # because CPU time may be divided among sessions: see `priority`
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
