"""The messages that a writer process sends to its parent, one JSON object per line.

Any number of `Progress` messages, then one `Finished`, `Failed` or `CapsuleTooLarge`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Way(StrEnum):
    """The ways to write a capsule, in the order in which they are tried."""

    STAGED = "staged"
    PUT_MANY = "put_many"
    CLI = "cli"


class Stage(StrEnum):
    """The stages of writing a capsule, in order."""

    FRAME_PREP = "frame_prep"
    WRITE_CAPSULE = "write_capsule"
    FINALIZE = "finalize"


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """The writer is making progress.

    Args:
        done: how much of the stage is done, 0 to 1.
        until: how much will be done by the next message.
        expected: estimated seconds until the next message.
        within: seconds without a message after which the writer is considered hung.
        message: one line for the job's owner.
    """

    stage: Stage
    done: float
    until: float
    expected: float
    within: float
    message: str


class Finished(msgspec.Struct, tag="finished", frozen=True):
    """The capsule is written, verified and on disk.

    Args:
        size: in bytes.
        sha256: lower-case hexadecimal.
        search: how much of each frame can be searched, `full` or `lean`.
    """

    size: int
    sha256: str
    search: str


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """This way failed; another may work.

    Args:
        reason: for the job's owner.
        killed: the writer was killed from outside, so this way may still work.
        errno: the disk error that stopped the writer, if any. Another way would fail as well.
    """

    reason: str
    killed: bool = False
    errno: int | None = None


class CapsuleTooLarge(msgspec.Struct, tag="too_large", frozen=True):
    """The frames do not fit, whichever way they are written. The first `fits` and the last one would fit."""

    fits: int


Message = Progress | Finished | Failed | CapsuleTooLarge
