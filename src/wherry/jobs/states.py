"""The states of a job, and the legal moves between them.

queued ──claim──▶ running ──finish──▶ succeeded | partial | failed | cancelled
   ▲                 │  ▲
   └────release──────┘  └──claim (its worker is gone: the epoch rises)
queued ──cancel──▶ cancelled
failed | cancelled ──retry──▶ queued, in a new round, unless the next run could only end likewise
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Status(StrEnum):
    """A job's state, as in `jobs.status`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    """What a job does, as in `jobs.kind`; also the name of its queue."""

    IMPORT = "import"
    EXPORT = "export"
    CAPSULE = "capsule"


MOVES: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        **dict.fromkeys(Status, frozenset()),
        Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED}),
        Status.RUNNING: frozenset(Status),
    }
)
"""The states that may follow each state in one round."""

FINISHED = frozenset(status for status, following in MOVES.items() if not following)
UNFINISHED = frozenset(Status) - FINISHED


def sources(target: Status) -> list[str]:
    """The states that `target` may follow, for `status = any(…)` in a statement."""
    return sorted(status for status, following in MOVES.items() if target in following)
