"""Capsule jobs as the `/v1` routes show them. This API has its own names for statuses and stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wherry.errors import CAPSULE_TOO_LARGE, EXPORT_FAILED
from wherry.jobs.events import Event
from wherry.jobs.models import Job
from wherry.jobs.states import Status
from wherry.times import now, rfc3339

_STATUS = {
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}

_STAGES = {"running": "transform", "succeeded": "download_ready", "cancelled": "canceled"}
"""This API's names for stages of the ledger; the capsule runner's own stages keep their names."""

EXPIRED = {"currentStage": "expired", "message": "Capsule expired"}

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


def status(job: Job) -> str:
    """This API's name for the job's status; `expired` if the job's capsule has expired."""
    return "expired" if is_expired(job) else _STATUS[job.status]


def is_expired(job: Job) -> bool:
    """Whether there was a capsule that has expired."""
    return job.status is Status.SUCCEEDED and job.artifact_is_past


def accepted(job: Job) -> dict[str, Any]:
    """The response to a request for a capsule."""
    return {
        "jobId": str(job.id),
        "status": status(job),
        "progress": round(job.progress),
        "currentStage": _stage(job.stage),
        "stageProgress": round(job.stage_progress),
        "message": job.message,
        "createdAt": rfc3339(job.created_at),
    }


def capsule_job(job: Job) -> dict[str, Any]:
    """The job's whole state."""
    expired = is_expired(job)
    return (
        accepted(job)
        | (EXPIRED if expired else {})  # also before retention has recorded it
        | {
            "elapsedMs": _elapsed_ms(job),
            "lastEventSeq": job.last_event_seq,
            "updatedAt": rfc3339(job.updated_at),
            "artifact": None if expired or job.status is not Status.SUCCEEDED else _artifact(job),
            "error": None if job.error is None else _error(job.error),
        }
    )


def event(entry: Event) -> dict[str, Any]:
    """One event of the job's log."""
    stage = _stage(entry.stage)
    return {
        "seq": entry.seq,
        "ts": rfc3339(entry.ts),
        "jobId": str(entry.job_id),
        "type": entry.type,
        "stage": stage,
        "progress": round(entry.progress),
        "stageProgress": round(entry.stage_progress),
        "emoji": _EMOJI.get(entry.type) or _STAGE_EMOJI.get(stage, _OTHER_EMOJI),
        "message": EXPIRED["message"] if entry.type == "job_expired" else entry.message,
        "meta": entry.meta,
    }


def _stage(stage: str) -> str:
    return _STAGES.get(stage, stage)


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    """This API has two codes: every error but one is EXPORT_FAILED."""
    code = error["code"] if error["code"] == CAPSULE_TOO_LARGE else EXPORT_FAILED
    return {"code": code, "message": error["message"]}


def _artifact(job: Job) -> dict[str, Any] | None:
    if job.artifact is None:
        return None
    return {
        "fileName": job.artifact["fileName"],
        "downloadUrl": f"/v1/exports/{job.id}/download",
        "expiresAt": rfc3339(job.expires_at),
        "sizeBytes": job.artifact["size"],
        "sha256": job.artifact["sha256"],
        "search": job.artifact["search"],
    }


def _elapsed_ms(job: Job) -> int:
    if job.started_at is None:
        return 0
    return max(0, round(((job.completed_at or now()) - job.started_at).total_seconds() * 1000))
