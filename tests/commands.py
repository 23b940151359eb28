"""Runs wherry's commands as forks of a process that has loaded wherry.

Starting Python and loading wherry takes most of a second of CPU time; a fork takes some milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from wherry.cli import main

LOADED = ["tests.commands", *(f"wherry.cli.{command}" for command in ("api", "migrate", "up", "users", "worker"))]
END_SECONDS = 60

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(LOADED)


class Fork:
    """A `wherry` command as a process in its own session, with methods of `subprocess.Popen`.

    Args:
        arguments: of the command, without `--fd`.
        environment: its whole environment.
        folder: its working directory.
        streams: the files for its input, output and errors.
        listener: a socket that it inherits as `--fd`.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        streams: tuple[Path, Path, Path],
        listener: socket.socket | None = None,
    ) -> None:
        given = (arguments, dict(environment), folder, streams, listener)
        self._process = _forks.Process(target=_become_wherry, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("wherry", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become_wherry(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    streams: tuple[Path, Path, Path],
    listener: socket.socket | None,
) -> None:
    os.setsid()
    for number, file in enumerate(streams):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    sys.stdin = os.fdopen(0)  # multiprocessing has replaced it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    inherited = () if listener is None else ("--fd", str(listener.detach()))
    sys.argv = ["wherry", *arguments, *inherited]
    main()


def wherry(folder: Path, environment: Mapping[str, str], *arguments: str, given: str = "") -> CompletedProcess[str]:
    """Run a command to its end in a folder, with this environment alone and this text as its standard input."""
    with TemporaryDirectory() as name:
        streams = Path(name, "in"), Path(name, "out"), Path(name, "err")
        streams[0].write_text(given)
        process = Fork(*arguments, environment=environment, folder=folder, streams=streams)
        try:
            status = process.wait(END_SECONDS)
        finally:
            process.kill()
        return CompletedProcess(arguments, status, streams[1].read_text(), streams[2].read_text())
