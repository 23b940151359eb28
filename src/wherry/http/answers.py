"""The shapes of what jobs are answered with, for `/openapi.json`.

In: nothing. Out: types that the description is made of. The answers themselves are made where the jobs are known, in
`imports.view`, `exports.view` and `capsules.view`; a test holds real ones against these.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from wherry.imports.models import ImportFormat, OnConflict
from wherry.jobs.states import Status


class JobError(Struct):
    """What ended a job: the name of a code, its number, a sentence, and figures that go with it."""

    code: str
    message: str
    number: int | UnsetType = UNSET
    detail: dict[str, Any] | UnsetType = UNSET


class LastError(Struct):
    """The name of a code, and a sentence."""

    code: str
    message: str


class RecordsJob(Struct, rename="camel", kw_only=True):
    """What an import and an export have in common. `progress` is a percentage."""

    id: UUID
    status: Status
    entity_type: str
    total_records: int | None
    processed_records: int
    progress: float
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    idempotency_key: str | None
    file_name: str | None
    file_size: int | None
    error: JobError | None


class ImportJob(RecordsJob, kw_only=True):
    """An import. `errorSummary` counts errors by name and field; its `lastError` is what ended the job."""

    format: ImportFormat
    success_count: int
    error_count: int
    source_url: str | None
    on_conflict: OnConflict
    dry_run: bool
    atomic: bool
    error_summary: dict[str, int | LastError] | None


class ImportAnswer(Struct, rename="camel", kw_only=True):
    """An import."""

    import_job: ImportJob


class ImportStatusAnswer(ImportAnswer, kw_only=True):
    """An import, and its error report where there is an error."""

    error_report_url: str | UnsetType = UNSET
    error_report_status: Literal["ready"] | UnsetType = UNSET
    error_report_truncated: Literal[True] | UnsetType = UNSET


class RecordError(Struct, rename="camel"):
    """One fault of one record."""

    record_index: int
    record_id: str | None
    error_code: int
    error_name: str
    message: str
    field: str | None
    value: Any
    details: dict[str, Any] | None
    created_at: datetime


class ErrorsPage(Struct, rename="camel"):
    """Errors in the order of their records; `nextCursor` is null behind the last."""

    errors: list[RecordError]
    next_cursor: str | None


class ExportJob(RecordsJob, kw_only=True):
    """An export; figures of its artifact are null until there is one."""

    format: str
    compression: str | None
    csv_escape_formulas: bool
    fields: list[str]
    filters: dict[str, Any]
    expires_at: datetime | None
    download_url: str | None
    sha256: str | None
    content_type: str | None
    truncated: bool
    record_limit: int | None
    reason: str | None


class ExportAnswer(Struct, rename="camel"):
    """An export."""

    export_job: ExportJob


class ListedImport(ImportJob, kw_only=True, tag_field="kind", tag="import"):
    """An import among other jobs."""


class ListedExport(ExportJob, kw_only=True, tag_field="kind", tag="export"):
    """An export among other jobs."""


class JobsPage(Struct, rename="camel"):
    """Jobs, newest first; `nextCursor` is null behind the last."""

    jobs: list[ListedImport | ListedExport]
    next_cursor: UUID | None


CapsuleStatus = Literal["queued", "running", "completed", "failed", "canceled", "expired"]


class CapsuleAccepted(Struct, rename="camel", kw_only=True):
    """A capsule job, in short. `progress` and `stageProgress` are percentages."""

    job_id: UUID
    status: CapsuleStatus
    progress: int
    current_stage: str
    stage_progress: int
    message: str | None
    created_at: datetime


class CapsuleFile(Struct, rename="camel"):
    """A capsule that can be downloaded."""

    file_name: str
    download_url: str
    expires_at: datetime | None
    size_bytes: int
    sha256: str
    search: Literal["full", "lean"]


class CapsuleError(Struct):
    """Why there is no capsule."""

    code: str
    message: str


class CapsuleJob(CapsuleAccepted, kw_only=True):
    """A capsule job."""

    elapsed_ms: int
    last_event_seq: int
    updated_at: datetime
    artifact: CapsuleFile | None
    error: CapsuleError | None


class CapsuleEvent(Struct, rename="camel"):
    """One line of a capsule job's log. `emoji` is a symbol for its type, or for its stage."""

    seq: int
    ts: datetime
    job_id: UUID
    type: str
    stage: str
    progress: int
    stage_progress: int
    emoji: str
    message: str
    meta: dict[str, Any] | None


class CapsuleEvents(Struct, rename="camel"):
    """Lines of a capsule job's log, oldest first, and the job. `nextSeq` is the `seq` that the next line will have."""

    job_id: UUID
    events: list[CapsuleEvent]
    next_seq: int
    status_snapshot: CapsuleJob
