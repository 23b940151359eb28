"""Runs wherry's commands as forks of a process that has loaded wherry.

Starting Python and loading wherry takes most of a second of CPU time; a fork takes some milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from wherry.cli import main

LOADED = ["tests.commands", *(f"wherry.cli.{command}" for command in ("api", "migrate", "up", "users", "worker"))]
STREAMS = ("in", "out", "err")
END_SECONDS = 60

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(LOADED)


def wherry(folder: Path, environment: Mapping[str, str], *arguments: str, given: str = "") -> CompletedProcess[str]:
    """Run a command to its end in a folder, with this environment alone and this text as its standard input."""
    with TemporaryDirectory() as name:
        files = [Path(name, stream) for stream in STREAMS]
        files[0].write_text(given)
        process = forks.Process(target=_run, args=(files, folder, dict(environment), arguments))
        process.start()
        process.join(END_SECONDS)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return CompletedProcess(arguments, process.exitcode, *(file.read_text() for file in files[1:]))


def _run(files: list[Path], folder: Path, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Become a `wherry` command, in the fork."""
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = os.fdopen(0)  # multiprocessing has replaced it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["wherry", *arguments]
    main()
