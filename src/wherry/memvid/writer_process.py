"""Writes a capsule in one way: ``python -m wherry.memvid.writer_process WAY SPOOL CAPSULE FRAMES PARENT``.

In: a spool of frames. Out: the capsule, verified and on disk, and `messages` as JSON lines on standard output.
Anything that libraries print goes to standard error. The process ends with its parent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from wherry.errors import DoesNotFit
from wherry.memvid.frame import Frame
from wherry.memvid.messages import CapsuleTooLarge, Failed, Finished, Message, Progress, Stage, Way
from wherry.memvid.spool import read_spool
from wherry.memvid.verification import verify
from wherry.memvid.ways import write
from wherry.this_process import do_bulk_work_for

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_SAMPLES = 24
_CHECKED_A_SECOND = 20_000
_PATIENCE = 120.0


def main(arguments: list[str]) -> int:
    """Write and verify the capsule that the arguments describe. Returns the exit status."""
    way, spool, capsule, frames, parent = arguments
    do_bulk_work_for(int(parent))
    say = _speaker()
    answer = _write(Way(way), Path(spool), Path(capsule), int(frames), say)
    say(answer)
    return 0 if isinstance(answer, Finished) else 1


def _speaker() -> Callable[[Message], None]:
    """Reserve standard output for messages; whatever else is printed to it goes to standard error."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    encode = msgspec.json.Encoder().encode

    def say(message: Message) -> None:
        out.write(encode(message) + b"\n")

    return say


def _write(way: Way, spool: Path, capsule: Path, frames: int, say: Callable[[Progress], None]) -> Message:
    try:
        amount = write(way, spool, capsule, frames, say)
        expected = 0.2 + frames / _CHECKED_A_SECOND
        say(Progress(Stage.FINALIZE, 0.0, 1.0, expected, _PATIENCE + expected * 20, "Verifying the capsule"))
        verify(capsule, _sample(spool, frames), frames)
        return Finished(capsule.stat().st_size, _digest(capsule), amount.value)
    except DoesNotFit as error:
        return CapsuleTooLarge(error.args[0])
    except Exception as error:
        # Whatever the reason, it is reported to the parent, which tries another way.
        with suppress(OSError):  # if the disk is full, the log cannot be written either
            traceback.print_exc()
        return Failed(f"{type(error).__name__}: {error}", errno=_errno(error))


def _errno(error: Exception) -> int | None:
    """The errno of a disk error, or None if it is another error. The SDK's errors have it only in their text."""
    if isinstance(error, OSError):
        number = error.errno
    else:
        found = _OS_ERROR.search(str(error))
        number = int(found[1]) if found else None
    return number if number in _DISK_ERRORS else None


def _sample(spool: Path, frames: int) -> Iterator[Frame]:
    """Evenly spaced frames, including the first and the last."""
    step = max(1, frames // _SAMPLES)
    return (frame for index, frame in enumerate(read_spool(spool)) if index % step == 0 or index == frames - 1)


def _digest(capsule: Path) -> str:
    """Sync the capsule to disk and hash it."""
    with capsule.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
