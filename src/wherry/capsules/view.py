"""What the `/v1` routes show of a capsule job. This API has its own names for statuses and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct
from msgspec.structs import asdict

from wherry.errors import CAPSULE_TOO_LARGE, EXPORT_FAILED
from wherry.jobs.events import Event
from wherry.jobs.models import Job
from wherry.jobs.states import Status
from wherry.times import Time, now, rfc3339

CapsuleStatus = Literal["queued", "running", "completed", "failed", "canceled", "expired"]
Percentage = Annotated[int, Meta(description="A percentage.")]

_STATUS: Mapping[Status, CapsuleStatus] = {
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}

_STAGES = {"running": "transform", "succeeded": "download_ready", "cancelled": "canceled"}
"""This API's names for stages of the ledger; the capsule runner's own stages keep their names."""

_EXPIRED_MESSAGE = "Capsule expired"

_EMOJI = {
    "job_started": "🚀",
    "stage_heartbeat": "💓",
    "job_completed": "✅",
    "job_failed": "❌",
    "job_canceled": "🛑",
    "job_expired": "⌛",
}
_STAGE_EMOJI = {"transform": "🔄", "frame_prep": "🧩", "write_capsule": "📦", "finalize": "💾"}
_OTHER_EMOJI = "⏳"


class CapsuleAccepted(Struct, rename="camel", kw_only=True):
    """A new capsule job."""

    job_id: UUID
    status: CapsuleStatus
    progress: Percentage
    current_stage: str
    stage_progress: Percentage
    message: str | None
    created_at: Time


class CapsuleFile(Struct, rename="camel", kw_only=True):
    """A capsule that can be downloaded."""

    file_name: str
    download_url: str
    expires_at: Time | None
    size_bytes: int
    sha256: Annotated[str, Meta(description="The file's digest, in hexadecimal.")]
    search: Annotated[
        Literal["full", "lean"], Meta(description="Whether the capsule's search index covers every word of its frames.")
    ]


class CapsuleError(Struct):
    """Why there is no capsule."""

    code: str
    message: str


class CapsuleJob(CapsuleAccepted, kw_only=True):
    """A capsule job."""

    elapsed_ms: Annotated[int, Meta(description="Milliseconds from the job's start until now, or until its end.")]
    last_event_seq: int
    updated_at: Time
    artifact: CapsuleFile | None
    error: CapsuleError | None


class CapsuleEvent(Struct, rename="camel", kw_only=True):
    """One event of a capsule job's log."""

    seq: Annotated[int, Meta(description="The event's number, from 1.")]
    ts: Time
    job_id: UUID
    type: str
    stage: str
    progress: Percentage
    stage_progress: Percentage
    emoji: Annotated[str, Meta(description="A symbol for the log panel.")]
    message: str
    meta: dict[str, Any] | None


class CapsuleEvents(Struct, rename="camel", kw_only=True):
    """Events of a capsule job, oldest first, and the job."""

    job_id: UUID
    events: list[CapsuleEvent]
    next_seq: Annotated[int, Meta(description="The `seq` that the next event will have.")]
    status_snapshot: CapsuleJob


def status(job: Job) -> CapsuleStatus:
    """This API's name for the job's status; `expired` if the job's capsule has expired."""
    return "expired" if is_expired(job) else _STATUS[job.status]


def is_expired(job: Job) -> bool:
    """Whether there was a capsule that has expired."""
    return job.status is Status.SUCCEEDED and job.artifact_is_past


def accepted(job: Job) -> CapsuleAccepted:
    """The response to a capsule request."""
    return CapsuleAccepted(
        job_id=job.id,
        status=status(job),
        progress=round(job.progress),
        current_stage=_STAGES.get(job.stage, job.stage),
        stage_progress=round(job.stage_progress),
        message=job.message,
        created_at=rfc3339(job.created_at),
    )


def capsule_job(job: Job) -> CapsuleJob:
    """The job's whole state."""
    expired = is_expired(job)
    shown = asdict(accepted(job))
    if expired:  # even before retention has recorded it
        shown |= {"current_stage": "expired", "message": _EXPIRED_MESSAGE}
    return CapsuleJob(
        **shown,
        elapsed_ms=_elapsed_ms(job),
        last_event_seq=job.last_event_seq,
        updated_at=rfc3339(job.updated_at),
        artifact=None if expired or job.status is not Status.SUCCEEDED else _artifact(job),
        error=None if job.error is None else _error(job.error),
    )


def event(entry: Event) -> CapsuleEvent:
    """One event of the job's log."""
    stage = _STAGES.get(entry.stage, entry.stage)
    return CapsuleEvent(
        seq=entry.seq,
        ts=rfc3339(entry.ts),
        job_id=entry.job_id,
        type=entry.type,
        stage=stage,
        progress=round(entry.progress),
        stage_progress=round(entry.stage_progress),
        emoji=_EMOJI.get(entry.type) or _STAGE_EMOJI.get(stage, _OTHER_EMOJI),
        message=_EXPIRED_MESSAGE if entry.type == "job_expired" else entry.message,
        meta=entry.meta,
    )


def _error(error: Mapping[str, Any]) -> CapsuleError:
    """This API has two codes: every error but one is EXPORT_FAILED."""
    code = error["code"] if error["code"] == CAPSULE_TOO_LARGE else EXPORT_FAILED
    return CapsuleError(code, error["message"])


def _artifact(job: Job) -> CapsuleFile | None:
    if job.artifact is None:
        return None
    return CapsuleFile(
        file_name=job.artifact["fileName"],
        download_url=f"/v1/exports/{job.id}/download",
        expires_at=rfc3339(job.expires_at),
        size_bytes=job.artifact["size"],
        sha256=job.artifact["sha256"],
        search=job.artifact["search"],
    )


def _elapsed_ms(job: Job) -> int:
    if job.started_at is None:
        return 0
    return max(0, round(((job.completed_at or now()) - job.started_at).total_seconds() * 1000))
