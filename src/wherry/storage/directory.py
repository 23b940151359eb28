"""Writes files to a local directory; a file appears only when it is complete and on disk.

Until then its name ends in `#` and a number, as obstore's own temporary files do. Files and folders are accessible to
their owner only, and a folder is removed with its last file.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

WRITE_BACK_BYTES = 4 << 20
"""Linux is asked to start writing a file to disk each time this many bytes were added (posix_fadvise(2)). Otherwise the
final fsync took a tenth of an export's time."""

CREATE_TRIES = 100

T = TypeVar("T")

_INCOMPLETE = re.compile(r"#\d+$")


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can enter; an existing one is left as it is."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)


def write_complete(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file; nothing is left of it if `chunks` raises."""
    staged = path.with_name(f"{path.name}#0")
    try:
        with _in_folder(path.parent, lambda: staged.open("wb", buffering=0)) as file:
            written = flushed = 0
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                written += len(chunk)
                if written - flushed >= WRITE_BACK_BYTES and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), flushed, written - flushed, os.POSIX_FADV_DONTNEED)
                    flushed = written
        sync(staged)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    keep(path)


def move_complete(path: Path, target: Path) -> int | None:
    """Move a complete file. Returns its size, or None, without moving it, if the target is on another file system."""
    size = path.stat().st_size
    sync(path)
    try:
        _in_folder(target.parent, lambda: path.replace(target))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return None
    keep(target)
    return size


def _in_folder(folder: Path, create: Callable[[], T]) -> T:
    """Create something in a folder, which is created if it is missing, and again if somebody removes it as empty."""
    for _ in range(CREATE_TRIES):
        make_private(folder)
        with suppress(FileNotFoundError):
            return create()
    return create()


def keep(path: Path) -> None:
    """Make a complete file accessible to its owner only, and wait until it and its name are on disk."""
    path.chmod(0o600)
    sync(path)


def sync(path: Path) -> None:
    """Wait until a file and its name are on disk."""
    for target in (path, path.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_incomplete(directory: Path, older_than_seconds: float) -> int:
    """Delete incomplete files of crashed writers. Returns their number."""
    newest = time.time() - older_than_seconds
    removed = 0
    for folder, _, names in os.walk(directory):  # skips folders that others remove in the meantime
        for path in (Path(folder, name) for name in names if _INCOMPLETE.search(name)):
            with suppress(FileNotFoundError):  # its writer has finished it
                if path.stat().st_mtime < newest:
                    path.unlink()
                    remove_empty(path.parent, directory)
                    removed += 1
    return removed


def remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder if it is empty and not the root itself."""
    if folder != root:
        with suppress(OSError):  # it is not empty, or already gone
            folder.rmdir()
