"""Processes that belong together: sockets they share, parents they follow, children that are kept alive.

In: command lines. Out: running children, restarted when they end by themselves, ended when their supervisor ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

import structlog

from wherry.errors import Misconfigured, Unavailable
from wherry.parents import end_with

FOLLOW = "WHERRY_PARENT_PID"
BACKLOG = 2048
STOP_SECONDS = 15.0
RESTART_SECONDS = 1.0
QUICK_SECONDS = 5.0
MAX_QUICK_ENDS = 5
MISCONFIGURED = 2  # exit status

log = structlog.get_logger(__name__)


def listen(host: str, port: int, *, setting: str = "HOST", option: str = "--port") -> socket.socket:
    """A listening TCP socket.

    Args:
        host: a name or address of this machine.
        port: any free one where it is 0.
        setting: says the host, for people.
        option: says the port, for people.

    Raises:
        Unavailable: the address is taken or not ours.
        Misconfigured: the host is no address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: no host name can be written so
        raise Misconfigured(f"{setting} must be an address of this machine, not {host}: {error}") from error
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}. Choose another with {option}") from error
    sock.listen(BACKLOG)
    return sock


def follow_parent() -> None:
    """In a child of a supervisor: end (SIGTERM) when the supervisor is killed. Linux; elsewhere nothing happens."""
    parent = os.environ.pop(FOLLOW, None)
    if parent is not None:
        end_with(int(parent), signal.SIGTERM)


class Child:
    """A `wherry` command in a process of its own, started again whenever it ends by itself.

    Args:
        arguments: of the command, without the program's name.
        environment: all of it.
        database_serves: set while it can reach its database; without that, it is not started again.
        pass_fds: file descriptors that it inherits.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        database_serves: asyncio.Event,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.arguments = list(arguments)
        self._database_serves = database_serves
        self._environment = {**environment, FOLLOW: str(os.getpid())}
        self._pass_fds = tuple(pass_fds)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def keep_alive(self) -> None:
        """Start it, and again each time that it ends; cancel to stop it.

        Raises:
            Misconfigured: it cannot run with these settings, however often it is started.
            Unavailable: it ended at once, several times in a row.
        """
        quick_ends = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._database_serves.wait()
                started = loop.time()
                status = await (await self._start()).wait()
                is_quick = loop.time() - started < QUICK_SECONDS and self._database_serves.is_set()
                quick_ends = quick_ends + 1 if is_quick else 0
                log.error("process ended by itself", command=self.arguments[0], status=status)
                if status == MISCONFIGURED:
                    raise Misconfigured(f"`wherry {self.arguments[0]}` cannot start with these settings; see its log")
                if quick_ends >= MAX_QUICK_ENDS:
                    raise Unavailable(f"`wherry {self.arguments[0]}` does not stay up; its log says why")
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await self._stop()

    async def _start(self) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then ends things in order.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wherry",
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environment,
            pass_fds=self._pass_fds,
            start_new_session=True,
        )
        return self._process

    async def _stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            log.error("process does not stop; killed", command=self.arguments[0])
            self._process.kill()
            await self._process.wait()
