"""The processes of `wherry up`: how they listen, are restarted when they exit, and are stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

import structlog

from wherry.errors import Misconfigured, Unavailable
from wherry.this_process import end_with

FOLLOW = "WHERRY_PARENT_PID"
BACKLOG = 2048
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
        port: 0 takes any free one.
        setting: the name of the host's setting, for error messages.
        option: the name of the port's option, for error messages.

    Raises:
        Unavailable: the address is in use, or not this machine's.
        Misconfigured: the host is not an address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: not a valid host name
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
    """In a child of `wherry up`: receive SIGTERM when the parent dies. Does nothing except on Linux."""
    parent = os.environ.pop(FOLLOW, None)
    if parent is not None:
        end_with(int(parent), signal.SIGTERM)


def cancel_on_signal() -> None:
    """Cancel the current task on the first of `STOP_SIGNALS`, so that everything that it opened is closed in order."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    # A signal that is ignored stays ignored: `nohup` relies on that.
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        for number in handled:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in handled:
        loop.add_signal_handler(number, stop)


class Child:
    """A `wherry` command in a child process, restarted whenever it exits.

    Args:
        arguments: of the command, without the program's name.
        environment: the child's whole environment.
        database_serves: set while the database can be reached; the child is started only then.
        pass_fds: file descriptors that the child inherits.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        database_serves: asyncio.Event,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._arguments = list(arguments)
        self._database_serves = database_serves
        self._environment = {**environment, FOLLOW: str(os.getpid())}
        self._pass_fds = tuple(pass_fds)
        self._process: asyncio.subprocess.Process | None = None

    async def keep_alive(self) -> None:
        """Start the child, and restart it whenever it exits; cancel to stop it.

        Raises:
            Misconfigured: it cannot run with these settings.
            Unavailable: it exited at once, several times in a row.
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
                log.error("process exited", command=self._arguments[0], status=status)
                if status == MISCONFIGURED:
                    raise Misconfigured(
                        f"`wherry {self._arguments[0]}` cannot start with these settings; see the log above"
                    )
                if quick_ends >= MAX_QUICK_ENDS:
                    raise Unavailable(f"`wherry {self._arguments[0]}` keeps exiting; see the log above")
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await self._stop()

    async def _start(self) -> asyncio.subprocess.Process:
        # A new session, so that Ctrl-C in a terminal reaches only the supervisor, which then stops everything in order.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wherry",
            *self._arguments,
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
            log.error("process did not stop in time and was killed", command=self._arguments[0])
            self._process.kill()
            await self._process.wait()
