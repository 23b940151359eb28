"""Runs a `postgres` process in the foreground; it never outlives the process that started it.

A dedicated thread starts the server and copies its output to the log file until the last server process has closed it.
So the thread lives exactly as long as the server, which matters on Linux: a child is signalled when the *thread* that
created it ends, not the process (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from wherry.errors import Unavailable
from wherry.local.server_account import SystemAccount
from wherry.this_process import end_with

READY = (
    b"database system is ready to accept connections",
    b"database system is ready to accept read-only connections",  # a standby
)
LOG_TAIL = 4000  # bytes of the log that go into an error message
TAIL_LINES = 20
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZDIR")


def server_environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs: no `PG…` variables, which would redirect them, and no secrets."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"}


def log_tail(log_file: Path) -> str:
    """The last lines of a server's log."""
    if not log_file.exists():
        return "(no log)"
    with log_file.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - LOG_TAIL))
        text = log.read().decode(errors="replace")
    return text if size <= LOG_TAIL else text.partition("\n")[2]


class ServerProcess:
    """A running `postgres`, created by `start`. Methods block, and may be called from any thread."""

    def __init__(self, command: Sequence[str], account: SystemAccount, log_file: Path) -> None:
        self._command = command
        self._account = account
        self._log_file = log_file
        self._last_lines: deque[str] = deque(maxlen=TAIL_LINES)  # missing from the file if the disk is full
        self._started: Future[int] = Future()
        self._ready: Future[None] = Future()
        self._keeper = threading.Thread(target=self._keep, name="postgres-keeper", daemon=True)

    @classmethod
    def start(cls, command: Sequence[str], account: SystemAccount, log_file: Path, timeout: float) -> ServerProcess:
        """Start a server and wait up to `timeout` seconds until it accepts connections.

        Raises:
            Unavailable: it exited or did not become ready; the message contains the end of its log.
        """
        server = cls(command, account, log_file)
        server._keeper.start()
        try:
            server._ready.result(timeout)
        except TimeoutError:
            server.stop(immediate=True)
            raise Unavailable(
                f"PostgreSQL was not ready within {timeout:.0f} s; the end of {log_file}:\n{server.log_end}"
            ) from None
        except BaseException:
            if server.is_running:
                server.stop(immediate=True)
            raise
        return server

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._started.result()

    @property
    def is_running(self) -> bool:
        """Whether any process of this server is still running."""
        return self._keeper.is_alive()

    @property
    def is_serving(self) -> bool:
        """Whether the postmaster is running. Without it no connection is accepted, though children may still run."""
        try:
            # does not reap it: the keeper does
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    @property
    def log_end(self) -> str:
        """The last lines that the server wrote."""
        return "".join(self._last_lines)[-LOG_TAIL:]

    def stop(self, *, immediate: bool = False, timeout: float = 60.0) -> None:
        """Stop the server: cleanly, closing every connection (SIGINT), or as in a crash (`immediate`, SIGQUIT).

        Returns when its last process has exited. After `timeout` seconds it is stopped by force. See "Shutting Down the
        Server" in the PostgreSQL manual.
        """
        for stop_signal in (signal.SIGQUIT if immediate else signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if not self.is_running:
                return
            with suppress(ProcessLookupError):  # its children will exit too, and the keeper waits for them
                os.kill(self.pid, stop_signal)
            self._keeper.join(timeout)
            timeout = 10.0
        if self.is_running:
            raise Unavailable(f"PostgreSQL (process {self.pid}) did not stop")

    def _keep(self) -> None:
        try:
            with self._log_file.open("ab", buffering=0) as log:
                process = self._spawn()
                self._started.set_result(process.pid)
                assert process.stdout is not None
                with process.stdout as lines:
                    for line in lines:
                        self._last_lines.append(line.decode(errors="replace"))
                        with suppress(OSError):  # even if the disk is full, drain the pipe, or the server hangs
                            log.write(line)
                        if any(text in line for text in READY) and not self._ready.done():
                            self._ready.set_result(None)
                # nobody else reaps it, so its id cannot be reused before this
                end = f"PostgreSQL exited with status {process.wait()}; the end of {self._log_file}:\n{self.log_end}"
                fault: Exception = Unavailable(end)
        except Exception as error:
            fault = error
        for outcome in (self._started, self._ready):
            if not outcome.done():
                outcome.set_exception(fault)

    def _spawn(self) -> subprocess.Popen[bytes]:
        # a separate session: Ctrl-C in the terminal must reach only us, so that we can stop the server last
        options: dict[str, Any] = {**self._account.popen_arguments(), "start_new_session": True}
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=server_environment(),
            preexec_fn=partial(end_with, os.getpid(), signal.SIGINT),  # a clean stop
            **options,
        )
