"""The types of the ledger: a new job, a stored job, a lease, a step of a run, and its outcome."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from wherry.errors import ErrorCode
from wherry.jobs.states import FINISHED, Kind, Status
from wherry.logs import current_request_id
from wherry.times import now

Json = dict[str, Any]


def new_job_id() -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, so that ids sort by age, and 74 random
    bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def parse_job_id(text: str) -> UUID | None:
    """The id that a client has sent, or None if no job can have it."""
    try:
        return UUID(text)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to create.

    `fingerprint` is a digest of the whole request: another request with the same idempotency key must have the same
    one. `webhook_url` is called when the job ends. `request_id` appears in the log; by default it is that of the
    current HTTP request.
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
    webhook_url: str | None = None
    request_id: str | None = field(default_factory=current_request_id)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the program reads of a row of `jobs`. `round` is one more than the number of retries."""

    id: UUID
    kind: Kind
    status: Status
    owner_id: int | None
    resource: str
    format: str
    options: Json
    source: Json | None
    idempotency_key: str | None
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
    round: int = 1
    cancel_requested_at: datetime | None = None
    request_id: str | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether workers have died while running this job, more than once in a row: the job may be the cause."""
        return self.status is Status.RUNNING and self.deaths > 0

    @property
    def artifact_is_past(self) -> bool:
        """Whether there was an artifact that has expired."""
        if self.artifact is None:
            return False
        return "removedAt" in self.artifact or (self.expires_at is not None and self.expires_at <= now())

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


RETRYABLE = frozenset(code.name for code in ErrorCode if 2003 <= code <= 2005 or 5001 <= code <= 5005)
"""The errors that another run of the same job may not have."""


def retryable(job: Job) -> bool:
    """Whether the job can be queued again: it was cancelled, or failed with one of these errors, and has its source.

    The source of a capsule is removed when the job ends. A job whose idempotency key was released counts as one without
    a source.
    """
    if job.kind is Kind.CAPSULE or "removedAt" in (job.source or {}):
        return False
    failure = (job.error or {}).get("code")
    return job.status is Status.CANCELLED or (job.status is Status.FAILED and failure in RETRYABLE)


@dataclass(frozen=True)
class Lease:
    """The right to work on a job until somebody else claims it. It fences every write of a run."""

    job_id: UUID
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What one step of a run adds to its job. Counts are those of this step alone; None leaves a column unchanged."""

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
        is_read: whether a failed run has read all of its input.
        keep_for: how long the artifact is kept after the job's end.
        discard: removes the artifact; called if the outcome could not be written.
    """

    status: Status
    is_read: bool = False
    artifact: Json | None = None
    keep_for: timedelta | None = None
    error: Json | None = None
    total_records: int | None = None
    message: str | None = None
    discard: Callable[[], Awaitable[None]] | None = None


CANCELLED = Outcome(status=Status.CANCELLED, message="Cancelled")
