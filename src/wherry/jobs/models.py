"""What the ledger takes and gives: a job as it is asked for, as it is stored, as it is held, and how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from wherry.jobs.states import FINISHED, Kind, Status
from wherry.logs import current_request_id
from wherry.times import now

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job as a caller asks for it.

    `fingerprint` is a digest of everything that the request asks for: the same key with another one is refused.
    `request_id` is for the log; by default that of the HTTP request being served.
    """

    id: UUID
    kind: Kind
    owner_id: int | None
    resource: str
    format: str
    options: Json = field(default_factory=dict)
    source: Json | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    message: str | None = None
    traceparent: str | None = None
    request_id: str | None = field(default_factory=current_request_id)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of `jobs`, as it is."""

    id: UUID
    kind: Kind
    status: Status
    owner_id: int | None
    resource: str
    format: str
    options: Json
    source: Json | None
    idempotency_key: str | None
    fingerprint: str | None
    artifact: Json | None
    expires_at: datetime | None
    total_records: int | None
    processed_records: int
    success_count: int
    error_count: int
    error_summary: Json
    checkpoint: Json | None
    epoch: int
    deaths: int
    cancel_requested_at: datetime | None
    progress: float
    stage: str
    stage_progress: float
    message: str | None
    last_event_seq: int
    error: Json | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    request_id: str | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether it was running when its worker died, and had been so before: it may be what kills its workers."""
        return self.status is Status.RUNNING and self.deaths > 0

    @property
    def artifact_is_past(self) -> bool:
        """Whether there was an artifact, and its time is over."""
        if self.artifact is None:
            return False
        return "removedAt" in self.artifact or (self.expires_at is not None and self.expires_at <= now())

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


@dataclass(frozen=True)
class Lease:
    """The right to work on a job until somebody claims it anew: every write names it."""

    job_id: UUID
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What one batch adds to a job. Counts are of this batch; None leaves a column as it is."""

    successes: int = 0
    errors: int = 0
    summary: Mapping[str, int] = field(default_factory=dict)
    checkpoint: Json | None = None
    total_records: int | None = None
    progress: float | None = None
    stage: str | None = None
    stage_progress: float | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        is_read: whether the run came to the end of its input, although it failed.
        keep_for: an artifact's time to live, from the end of the job.
        discard: removes the artifact, if it turns out that the end is not wanted any more.
    """

    status: Status
    is_read: bool = False
    artifact: Json | None = None
    keep_for: timedelta | None = None
    error: Json | None = None
    total_records: int | None = None
    message: str | None = None
    discard: Callable[[], Awaitable[None]] | None = None
