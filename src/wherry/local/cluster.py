"""The data directory of the embedded server: created completely or not at all, locked, and cleaned up after a crash.

Next to a data directory `D` are `D.lock` (locked while a server of ours uses `D`) and `D.log` (that server's log).
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
from contextlib import contextmanager, suppress
from pathlib import Path

from wherry.errors import DataDirectoryInUse, Misconfigured, Unavailable
from wherry.local.binaries import Binaries
from wherry.local.server_account import SystemAccount
from wherry.local.server_process import log_tail, server_environment

INIT_TIMEOUT = 120.0  # seconds; measured 0.7 s, but a slow disk takes longer
STRAY_TIMEOUT = 30.0  # seconds that the server of a dead owner gets to shut down cleanly
ORPHAN_TIMEOUT = 5.0  # seconds that a dead postmaster's children get to exit; only a busy one takes any time


def beside(data_dir: Path, suffix: str) -> Path:
    """The path of a file that belongs to a data directory and is next to it."""
    return data_dir.with_name(data_dir.name + suffix)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Lock the data directory. The lock ends with this process at the latest.

    Raises:
        Unavailable: another process has the lock; the message contains its id.
    """
    # truncated only after it is locked, so that others can read the id of the process that has it
    descriptor = os.open(beside(data_dir, ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock.read().strip() or "unknown"
            raise DataDirectoryInUse(
                f"the data directory {data_dir} is in use by another wherry (process {owner}): stop that one, or "
                "set another WHERRY_DATA_DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def prepare(data_dir: Path, binaries: Binaries, account: SystemAccount) -> None:
    """Make sure that `data_dir` contains a cluster of this major version; create it if there is none.

    Raises:
        Misconfigured: it was created by another major version, or is not a data directory.
        Unavailable: `initdb` failed; the message contains the end of its output.
    """
    version_file = data_dir / "PG_VERSION"
    if version_file.exists():
        release = version_file.read_text().strip()
        if release != str(binaries.major):
            raise Misconfigured(
                f"{data_dir} was created by PostgreSQL {release}, and {binaries} cannot read it: set PG_BINDIR to a "
                f"PostgreSQL {release}, or choose another WHERRY_DATA_DIR"
            )
    elif data_dir.exists() and any(data_dir.iterdir()):
        raise Misconfigured(f"{data_dir} is not a PostgreSQL data directory, and not empty: choose another one")
    else:
        _create(data_dir, binaries, account)


def _create(data_dir: Path, binaries: Binaries, account: SystemAccount) -> None:
    """Run `initdb` next to `data_dir`, then move the result there, so that killing it leaves nothing incomplete."""
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
        raise Unavailable(f"initdb exited with status {status}; the end of {log_file}:\n{log_tail(log_file)}")
    unfinished.rename(data_dir)  # replaces an empty folder


def end_strays(data_dir: Path) -> None:
    """Stop the server that a killed owner left running on `data_dir`, and remove a stale `postmaster.pid`.

    Call this with the directory locked, so that nobody else is using it. Such a server is usually shutting down
    already, so this only waits for it.

    Raises:
        Unavailable: a process of the old server does not exit.
    """
    for stop_signal in (signal.SIGINT, signal.SIGQUIT):
        strays, postmaster = _processes_in(data_dir), _recorded_pid(data_dir)
        if postmaster in strays:
            _kill(postmaster, stop_signal)
            _await_ends(strays, STRAY_TIMEOUT)
    _end_orphans(data_dir)
    if strays := _processes_in(data_dir):
        raise DataDirectoryInUse(f"processes {strays} of an earlier server still use {data_dir}: end them first")
    # PostgreSQL would refuse to start if another program has the same process id by now
    (data_dir / "postmaster.pid").unlink(missing_ok=True)


def _end_orphans(data_dir: Path) -> None:
    """Stop the children of a killed postmaster: one that is running a long query does not notice on its own."""
    _await_ends(_processes_in(data_dir), ORPHAN_TIMEOUT)
    for stop_signal in (signal.SIGQUIT, signal.SIGKILL):  # after a crash, the postmaster itself sends SIGQUIT
        orphans = _processes_in(data_dir)
        if _recorded_pid(data_dir) in orphans:
            return
        for pid in orphans:
            _kill(pid, stop_signal)
        _await_ends(orphans, ORPHAN_TIMEOUT)


def _recorded_pid(data_dir: Path) -> int:
    """The postmaster's process id according to `postmaster.pid`, or 0 if there is none."""
    try:
        return int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _processes_in(data_dir: Path) -> list[int]:
    """Ids of the server processes on `data_dir`, which is the working directory of each."""
    target = data_dir.resolve()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == target and (entry / "comm").read_text().startswith("postgres"):
                found.append(int(entry.name))
        except OSError:
            continue  # has exited in the meantime, or is somebody else's
    return found


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _await_ends(pids: list[int], seconds: float) -> None:
    """Wait for processes that are not our children to exit, but not longer than this."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid), "rb", buffering=0) as process:
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
