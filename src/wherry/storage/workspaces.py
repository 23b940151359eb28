"""Temporary folders that outlive their process by a few minutes at most.

A workspace is a folder under TMPDIR (by default /tmp) that is removed after use. It is locked (flock(2), on the folder
itself), and the lock ends with its process, even if that is killed. Folders that nobody has locked are abandoned; they
are removed by retention, and whenever a new workspace is created on the same host.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from wherry.errors import StorageUnavailable

PREFIX = "wherry-work-"


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for the duration of a `with` block. Entering and leaving it block briefly.

    Raises:
        Unavailable: instead of any OSError that leaves the block; names the cause, such as a full disk.
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
        cause = os.strerror(error.errno).lower()  # the error's own text may contain a path
        raise StorageUnavailable(f"this host cannot keep temporary files: {cause}") from error


def scratch_file() -> IO[bytes]:
    """A temporary file without a name, which is gone when it is closed and not mapped any more.

    Raises:
        OSError: the disk is full, for example.
    """
    return tempfile.TemporaryFile(dir=_parent())


def remove_abandoned() -> int:
    """Remove this user's abandoned folders. Returns their number. Blocks."""
    return sum(_remove(folder) for folder in _parent().glob(f"{PREFIX}*"))


def _parent() -> Path:
    """TMPDIR, or /tmp if it is not set. `tempfile` would silently use another disk if this one is full."""
    return Path(os.environ.get("TMPDIR") or "/tmp")


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
        with suppress(FileNotFoundError):  # somebody removed it as abandoned just before it was locked
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove(folder: Path) -> bool:
    try:
        lock = _opened(folder)
    except OSError:  # gone, somebody else's, or not a folder
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
