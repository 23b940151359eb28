"""A server's data directory on disk: created whole, locked to one holder, cleared of what a crash left.

In: the path of a data directory. Out: one that a server of this release can start on, held until released.

Beside `D` lie `D.lock` (locked while a server of ours owns `D`) and `D.log` (that server's log).
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.database.binaries import Binaries
from wherry.database.server_account import Account
from wherry.database.server_process import log_tail, server_environment
from wherry.errors import DataDirectoryInUse, EmbeddedServerFailed, Misconfigured

INIT_TIMEOUT = 120.0  # seconds; 0.7 s were measured, a slow disk takes longer
STRAY_TIMEOUT = 30.0  # seconds that a dead holder's server gets to end cleanly
ORPHAN_TIMEOUT = 5.0  # seconds that a dead postmaster's children get to notice; all but a busy one do at once


def beside(data_dir: Path, suffix: str) -> Path:
    """A file that belongs to a data directory and lies next to it."""
    return data_dir.with_name(data_dir.name + suffix)


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the data directory's lock, which ends with this process at the latest.

    Raises:
        Unavailable: another process, which the message names, holds it.
    """
    # opened first and truncated only under the lock, so that the holder's id stays readable for others
    descriptor = os.open(beside(data_dir, ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().strip() or "unknown"
            raise DataDirectoryInUse(
                f"the data directory {data_dir} is in use by another wherry (process {holder}): stop that one, or "
                "set another WHERRY_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def prepare(data_dir: Path, binaries: Binaries, account: Account) -> None:
    """Make sure that `data_dir` holds a cluster of this release: create it if it is not there yet.

    Raises:
        Misconfigured: it is another release's, or something else lies there.
        Unavailable: `initdb` failed; the end of its output is in the message.
    """
    version_file = data_dir / "PG_VERSION"
    if version_file.exists():
        release = version_file.read_text().strip()
        if release != str(binaries.major):
            raise Misconfigured(
                f"{data_dir} was made by PostgreSQL {release}, and {binaries} cannot read it: set PG_BINDIR to a "
                f"PostgreSQL {release}, or choose another WHERRY_DATA_DIR"
            )
    elif data_dir.exists() and any(data_dir.iterdir()):
        raise Misconfigured(f"{data_dir} is not a PostgreSQL data directory, and not empty: choose another one")
    else:
        _create(data_dir, binaries, account)


def _create(data_dir: Path, binaries: Binaries, account: Account) -> None:
    """Run `initdb` beside `data_dir` and move the result there: a killed `initdb` leaves no half of a cluster."""
    unfinished = beside(data_dir, ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    command = [binaries.program("initdb"), "-D", str(unfinished), "-U", "postgres", "-A", "trust"]
    log_file = beside(data_dir, ".log")
    with log_file.open("ab") as log:
        status = subprocess.run(  # type: ignore[call-overload]  # account's keywords are valid, but not typed
            [*command, "-E", "UTF8", "--locale=C.UTF-8"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=server_environment(),
            timeout=INIT_TIMEOUT,
            **account.popen_arguments(),
        ).returncode
    if status != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedServerFailed(f"initdb ended with status {status}; the end of {log_file}:\n{log_tail(log_file)}")
    unfinished.rename(data_dir)  # replaces an empty folder


def end_strays(data_dir: Path) -> None:
    """End what a holder that was killed left running on `data_dir`, and remove a `postmaster.pid` that lies.

    Call it with the lock held: then nobody else may be using the directory. A server whose holder died is stopping
    already; where it only just began, waiting is all it takes.

    Raises:
        Unavailable: a process of the old server does not end.
    """
    for stop_signal in (signal.SIGINT, signal.SIGQUIT):
        strays, postmaster = _processes_in(data_dir), _recorded_pid(data_dir)
        if postmaster in strays:
            _kill(postmaster, stop_signal)
            _await_ends(strays, STRAY_TIMEOUT)
    _end_orphans(data_dir)
    if strays := _processes_in(data_dir):
        raise DataDirectoryInUse(f"processes {strays} of an earlier server still use {data_dir}: end them first")
    # its id may meanwhile be another program's, and PostgreSQL would take that for a running server
    (data_dir / "postmaster.pid").unlink(missing_ok=True)


def _end_orphans(data_dir: Path) -> None:
    """End the children of a postmaster that was killed: one in the middle of a long query does not notice by itself."""
    _await_ends(_processes_in(data_dir), ORPHAN_TIMEOUT)
    for stop_signal in (signal.SIGQUIT, signal.SIGKILL):  # SIGQUIT is what the postmaster sends after a crash
        orphans = _processes_in(data_dir)
        if _recorded_pid(data_dir) in orphans:
            return
        for pid in orphans:
            _kill(pid, stop_signal)
        _await_ends(orphans, ORPHAN_TIMEOUT)


def _recorded_pid(data_dir: Path) -> int:
    """The postmaster's id, or 0 if no file names one."""
    try:
        return int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _processes_in(data_dir: Path) -> list[int]:
    """Ids of the server processes on `data_dir`: every one of them has it as its working directory."""
    target = data_dir.resolve()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == target and (entry / "comm").read_text().startswith("postgres"):
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _await_ends(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for pid in pids:
        _await_end(pid, deadline)


def _await_end(pid: int, deadline: float) -> None:
    """Wait until a process that is not our child has ended, or the deadline (of `time.monotonic`) has passed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(descriptor)
