"""Files of a local directory that are there only when they are complete, and on disk.

On its way a file has the name that obstore gives one: its own, and `#` with a number behind it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

WRITE_BACK_BYTES = 16 << 20
"""How often Linux is told to begin putting a file on disk (posix_fadvise(2)), so that the fsync at its end finds little
left to wait for: it took a tenth of an export's time."""

_INCOMPLETE = re.compile(r"#\d+$")


def write_complete(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file; nothing of it stays if its stream fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"{path.name}#0")
    try:
        with staged.open("wb", buffering=0) as file:
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
    for path in directory.rglob("*#*"):
        if _INCOMPLETE.search(path.name) and path.stat().st_mtime < newest:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
