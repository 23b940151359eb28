"""An export job as clients see it.

In: a job. Out: the object of `{"exportJob": …}`.
"""

from __future__ import annotations

from typing import Any

from wherry.exports.requests import ExportRequest
from wherry.jobs.models import Job
from wherry.jobs.states import Status
from wherry.settings import Settings
from wherry.times import rfc3339


def export_job(job: Job, settings: Settings) -> dict[str, Any]:
    """The job, with its artifact's figures once there is one. `progress` is a percentage."""
    request = ExportRequest.of_job(job)
    return {
        "id": str(job.id),
        "status": job.status.value,
        "entityType": job.resource,
        "format": job.format,
        "compression": request.compression,
        "csvEscapeFormulas": request.escape_formulas,
        "fields": list(request.selection.fields),
        "filters": dict(request.selection.filters),
        "totalRecords": job.total_records,
        "processedRecords": job.processed_records,
        "progress": job.progress,
        "createdAt": rfc3339(job.created_at),
        "startedAt": rfc3339(job.started_at),
        "completedAt": rfc3339(job.completed_at),
        "expiresAt": rfc3339(job.expires_at),
        "idempotencyKey": job.idempotency_key,
        "error": job.error,
        **_artifact(job, settings),
    }


def _artifact(job: Job, settings: Settings) -> dict[str, Any]:
    artifact = job.artifact or {}
    ready = job.status is Status.SUCCEEDED and job.artifact is not None
    path = f"/api/v1/exports/{job.id}/download"
    return {
        "downloadUrl": f"{settings.export_download_base_url}{path}" if ready else None,
        "fileName": artifact.get("fileName"),
        "fileSize": artifact.get("size"),
        "sha256": artifact.get("sha256"),
        "contentType": artifact.get("contentType"),
        "truncated": artifact.get("truncated", False),
        "recordLimit": artifact.get("recordLimit"),
        "reason": artifact.get("reason"),
    }
