"""What the API shows of a job: in one shape for every kind, and what imports and exports have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields, replace

from wherry.jobs.models import Job, retryable
from wherry.jobs.states import Kind, Status
from wherry.times import Time, rfc3339

PRIVATE = frozenset(
    {
        *("idempotency_key", "file_name", "source_url", "webhook_url", "filters", "download_url"),
        *("columns", "records_at", "warnings"),
    }
)
"""Fields that may contain what only the job's owner should see: names of files, secrets in URLs, values of records."""

Shown = TypeVar("Shown", bound="AnyJob | RecordsJob")


class JobError(Struct):
    """Why a job failed."""

    code: str
    message: str
    number: Annotated[int | UnsetType, Meta(description="The code's number, if it has one.")] = UNSET
    detail: Annotated[dict[str, Any] | UnsetType, Meta(description="Figures, by name.")] = UNSET


class RecordsJob(Struct, rename="camel", kw_only=True):
    """What imports and exports have in common."""

    id: UUID
    status: Status
    entity_type: Annotated[str, Meta(description="The name of the resource.")]
    total_records: Annotated[int | None, Meta(description="Null until it is known.")]
    processed_records: int
    progress: Annotated[float, Meta(description="A percentage, with one decimal.")]
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    idempotency_key: str | None
    error: Annotated[JobError | None, Meta(description="Why the job failed; null if it did not.")]


def common_fields(job: Job) -> dict[str, Any]:
    """The fields of a `RecordsJob`."""
    return {
        "id": job.id,
        "status": job.status,
        "entity_type": job.resource,
        "total_records": job.total_records,
        "processed_records": job.processed_records,
        "progress": round(job.progress, 1),
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "completed_at": rfc3339(job.completed_at),
        "idempotency_key": job.idempotency_key,
        "error": None if job.error is None else msgspec.convert(job.error, JobError),
    }


class AnyJob(Struct, rename="camel", kw_only=True):
    """A job of any kind."""

    id: UUID
    kind: Kind
    status: Status
    entity_type: Annotated[str, Meta(description="The name of the resource.")]
    format: str
    owner_id: Annotated[int | None, Meta(description="The user whose job it is; null for a capsule.")]
    total_records: Annotated[int | None, Meta(description="Null until it is known.")]
    processed_records: int
    success_count: int
    error_count: int
    progress: Annotated[float, Meta(description="A percentage, with one decimal.")]
    stage: Annotated[str, Meta(description="The current step of the run; after the end, the status.")]
    message: str | None
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    expires_at: Annotated[Time | None, Meta(description="When the artifact is removed.")]
    idempotency_key: str | None
    error: Annotated[JobError | None, Meta(description="Why the job failed; null if it did not.")]
    error_summary: Annotated[dict[str, int], Meta(description="How many errors there are, by code and field.")]
    file_name: Annotated[str | None, Meta(description="The name of the source of an import, else of the artifact.")]
    file_size: Annotated[int | None, Meta(description="Its size in bytes.")]
    round: Annotated[int, Meta(description="One more than the number of retries.")]
    epoch: Annotated[int, Meta(description="How many times a worker has taken the job.")]
    cancel_requested: bool
    retryable: Annotated[bool, Meta(description="Whether the job can be retried.")]
    webhook_url: Annotated[str | None, Meta(description="The `webhookUrl` of the request.")]


def any_job(job: Job) -> AnyJob:
    """The job as its owner sees it."""
    file = _file(job)
    return AnyJob(
        **common_fields(job),
        kind=job.kind,
        format=job.format,
        owner_id=job.owner_id,
        success_count=job.success_count,
        error_count=job.error_count,
        stage=job.stage,
        message=job.message,
        expires_at=rfc3339(job.expires_at),
        error_summary=dict(job.error_summary),
        file_name=file.get("fileName"),
        file_size=file.get("fileSize", file.get("size")),
        round=job.round,
        epoch=job.epoch,
        cancel_requested=job.cancel_requested_at is not None,
        retryable=retryable(job),
        webhook_url=job.options.get("webhookUrl"),
    )


def _file(job: Job) -> Mapping[str, Any]:
    return (job.source if job.kind is Kind.IMPORT else job.artifact) or {}


def for_operator(shown: Shown) -> Shown:
    """What an operator sees of somebody else's job: as its owner does, but without anything private."""
    hidden = {each.name: UNSET if each.default is UNSET else None for each in fields(shown) if each.name in PRIVATE}
    error = None if shown.error is None else replace(shown.error, detail=UNSET)
    return replace(shown, **hidden, error=error)
