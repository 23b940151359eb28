"""What a writer process says to its parent, one JSON object a line.

In: what happens in the writer. Out: `Progress` any number of times, then one `Finished`, `Failed` or `TooLarge`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Way(StrEnum):
    """How a capsule is written; they are tried in this order."""

    STAGED = "staged"
    PUT_MANY = "put_many"
    CLI = "cli"


class Stage(StrEnum):
    """What is being done, in the order in which it is done."""

    FRAME_PREP = "frame_prep"
    WRITE_CAPSULE = "write_capsule"
    FINALIZE = "finalize"


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """The work goes on.

    Args:
        stage: what begins or goes on.
        done: how much of the stage is done, 0 to 1.
        until: how much will be done when the next message comes.
        expected: seconds until then, about.
        within: seconds after which the next message is overdue, and the writer taken for hung.
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
        size: bytes.
        sha256: lower-case hexadecimal.
        frames: how many it holds.
        search: how much of each frame can be searched, `full` or `lean`.
    """

    size: int
    sha256: str
    frames: int
    search: str


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """This way did not work; another may.

    Args:
        reason: for the job's owner.
        killed: the writer was ended by a signal from elsewhere, so that the way itself may still be good.
        errno: of the system error that ended it, where the disk is at fault, so that no other way would go better.
    """

    reason: str
    killed: bool = False
    errno: int | None = None


class TooLarge(msgspec.Struct, tag="too_large", frozen=True):
    """No way has room for these frames; the first `fits` would fit, together with the last."""

    fits: int


Message = Progress | Finished | Failed | TooLarge
