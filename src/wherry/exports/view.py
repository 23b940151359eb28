"""What the API shows of an export: the job and, once there is one, its artifact."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from wherry.jobs.models import Job
from wherry.jobs.states import Status
from wherry.jobs.view import RecordsJob, common_fields
from wherry.settings import Settings
from wherry.times import Time, rfc3339


class ExportJob(RecordsJob, kw_only=True):
    """An export. What is known of the artifact is null until there is one."""

    format: str
    compression: str | None
    csv_escape_formulas: bool
    fields: list[str]
    filters: Annotated[dict[str, Any] | None, Meta(description="Null if the export is somebody else's.")]
    expires_at: Annotated[Time | None, Meta(description="When the artifact is removed.")]
    download_url: str | None
    file_name: str | None
    file_size: Annotated[int | None, Meta(description="Bytes of the artifact.")]
    sha256: Annotated[str | None, Meta(description="The artifact's digest, in hexadecimal.")]
    content_type: str | None
    truncated: Annotated[bool, Meta(description="Whether there were more records than an export may have.")]
    record_limit: Annotated[
        int | None, Meta(description="The most records that an export may have, if this one was truncated.")
    ]
    reason: Annotated[str | None, Meta(description="If truncated: why.")]
    webhook_url: Annotated[str | UnsetType, Meta(description="Called when the job ends, if that was requested.")] = (
        UNSET
    )


class ExportAnswer(Struct, rename="camel"):
    """An export."""

    export_job: ExportJob


def export_job(job: Job, settings: Settings) -> ExportJob:
    """The export itself."""
    artifact = job.artifact or {}
    ready = job.status is Status.SUCCEEDED and job.artifact is not None
    path = f"/api/v1/exports/{job.id}/download"
    return ExportJob(
        **common_fields(job),
        format=job.format,
        compression=job.options["compression"],
        csv_escape_formulas=job.options["csvEscapeFormulas"],
        fields=job.options["fields"],
        filters=job.options["filters"],
        expires_at=rfc3339(job.expires_at),
        download_url=f"{settings.export_download_base_url}{path}" if ready else None,
        file_name=artifact.get("fileName"),
        file_size=artifact.get("size"),
        sha256=artifact.get("sha256"),
        content_type=artifact.get("contentType"),
        truncated=artifact.get("truncated", False),
        record_limit=artifact.get("recordLimit"),
        reason=artifact.get("reason"),
        webhook_url=job.options.get("webhookUrl", UNSET),
    )
