"""Temporary folders that outlive their process by a few minutes at the most.

In: nothing. Out: a folder under TMPDIR (by default /tmp) for one piece of work, which is removed behind it. Its lock
(flock(2), on the folder itself) ends with the process that holds it, however that ends: whoever begins a piece of work
on the same host, and retention, remove the folders whose lock nobody holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wherry.errors import StorageUnavailable

PREFIX = "wherry-work-"


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for the length of a `with` block. Blocks for a moment at both ends.

    Raises:
        Unavailable: instead of a system error that leaves the block. It names the cause: a disk that is full, or
            whatever else this host lacks.
    """
    try:
        remove_abandoned()
        folder, lock = _locked_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        if error.errno is None:
            raise
        cause = os.strerror(error.errno).lower()  # the error's own text may hold a path
        raise StorageUnavailable(f"this host cannot keep temporary files: {cause}") from error


def remove_abandoned() -> int:
    """Remove this account's folders that no living process holds; how many. Blocks."""
    return sum(_remove(folder) for folder in _parent().glob(f"{PREFIX}*"))


def _parent() -> Path:
    """TMPDIR and nothing else: if that is full, `tempfile` silently writes to another disk."""
    return Path(os.environ.get("TMPDIR") or "/tmp")


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
        with suppress(FileNotFoundError):  # somebody took it for abandoned in the moment before it was locked
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove(folder: Path) -> bool:
    try:
        lock = _opened(folder)
    except OSError:  # gone, somebody else's, or no folder at all
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
