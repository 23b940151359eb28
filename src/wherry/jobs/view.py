"""What the API shows of a job that moves records, whether in or out."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from wherry.jobs.models import Job
from wherry.jobs.states import Status
from wherry.times import Time, rfc3339


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
