"""Files of a local directory that are there only when they are complete, and on disk.

On its way a file has the name that obstore gives one: its own, and `#` with a number behind it. Folders and files are
their owner's alone, and a folder goes with the last of its files.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path

WRITE_BACK_BYTES = 16 << 20
"""How often Linux is told to begin putting a file on disk (posix_fadvise(2)), so that the fsync at its end finds little
left to wait for: it took a tenth of an export's time."""

CREATE_TRIES = 100

_INCOMPLETE = re.compile(r"#\d+$")


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone can enter; what is there stays as it is."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)


def write_complete(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file; nothing of it stays if its stream fails."""
    staged = path.with_name(f"{path.name}#0")
    try:
        with _create(staged) as file:
            written = begun = 0
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                written += len(chunk)
                if written - begun >= WRITE_BACK_BYTES and hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), begun, written - begun, os.POSIX_FADV_DONTNEED)
                    begun = written
        sync(staged)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    keep(path)


def _create(path: Path) -> FileIO:
    for _ in range(CREATE_TRIES):
        make_private(path.parent)
        with suppress(FileNotFoundError):  # somebody has just removed the folder, as it was empty
            return path.open("wb", buffering=0)
    return path.open("wb", buffering=0)


def keep(path: Path) -> None:
    """Make a complete file its owner's alone, and wait until it and its name are on disk."""
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
    """Delete what writers that crashed have left; how many files."""
    newest = time.time() - older_than_seconds
    removed = 0
    for folder, _, names in os.walk(directory):  # which passes over folders that others remove meanwhile
        for path in (Path(folder, name) for name in names if _INCOMPLETE.search(name)):
            with suppress(FileNotFoundError):  # its writer was alive
                if path.stat().st_mtime < newest:
                    path.unlink()
                    remove_empty(path.parent, directory)
                    removed += 1
    return removed


def remove_empty(folder: Path, root: Path) -> None:
    """Remove the folder of a file that is gone, if it was the last one there and the folder is not the root itself."""
    if folder != root:
        with suppress(OSError):  # it is not empty, or gone already
            folder.rmdir()
