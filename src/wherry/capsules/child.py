"""Runs a module of ours in a process of its own, which ends with the task that waits for it, and with this process.

In: the module's name and its arguments. Out: what it prints on standard output.
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
    """Seconds that a process may take for a body: several times what the slowest honest one of its size takes."""
    return BASE_SECONDS + body_bytes / BYTES_PER_SECOND


async def output_of(module: str, *arguments: str, seconds: float) -> bytes | None:
    """Run `python -m module` to its end; None where that is not a good one.

    It is started from a thread, where Python does so without copying this process's page tables: uvloop copies them,
    and serves nobody until the new program begins.

    Raises:
        TimeoutError: it took longer than `seconds`, and was killed.
    """
    run = _Run([sys.executable, "-m", module, str(os.getpid()), *arguments], seconds)
    return await beside_the_loop(run.output, stop=run.end)


class _Run:
    """One process, from its start to its end, for the thread that waits for it."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._command = command
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def output(self) -> bytes | None:
        with subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # as processor time may be shared out among sessions: see `priority`
        ) as self._process:
            try:
                output, _ = self._process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                self._process.kill()  # nothing happens where it has ended
        return output if self._process.returncode == 0 else None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
