"""What the API shows of an import: the job, its error report, and single errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from wherry.imports.bookkeeping import ReportState
from wherry.imports.models import OnConflict, UnknownFields
from wherry.imports.readers import FormatName
from wherry.imports.requests import options_of
from wherry.jobs.models import Job
from wherry.jobs.view import RecordsJob, common_fields
from wherry.settings import Settings
from wherry.times import Time


class LastError(Struct):
    """Why the job failed."""

    code: str
    message: str


class Warning(Struct):
    """Something that was noticed, but is no error."""

    code: Literal["UNKNOWN_FIELD"]
    field: Annotated[str | None, Meta(description="The name of the field; null stands for all further names.")]
    count: Annotated[int, Meta(description="How many records have it.")]
    message: str


class ImportJob(RecordsJob, kw_only=True):
    """An import."""

    format: FormatName
    success_count: int
    error_count: Annotated[int, Meta(description="Number of records that were refused, however many errors each has.")]
    file_name: str | None
    file_size: Annotated[int | None, Meta(description="Size in bytes, as sent.")]
    source_url: str | None
    on_conflict: OnConflict
    dry_run: bool
    atomic: bool
    max_errors: Annotated[int | None, Meta(description="If more records than this have errors, the import stops.")]
    unknown_fields: UnknownFields
    error_summary: Annotated[
        dict[str, int | LastError] | None,
        Meta(
            description="How many errors there are, by code and field, such as `INVALID_FIELD_FORMAT.email`. "
            "If the job failed, `lastError` says why. Null if there is neither."
        ),
    ]
    warnings: Annotated[list[Warning], Meta(description="What was noticed, but is no error.")]
    columns: Annotated[
        dict[str, str | None] | UnsetType, Meta(description="csv: the field of each header, if that was requested.")
    ] = UNSET
    records_at: Annotated[
        str | UnsetType, Meta(description="json: where the records are in the document, if that was requested.")
    ] = UNSET
    webhook_url: Annotated[str | UnsetType, Meta(description="Called when the job ends, if that was requested.")] = (
        UNSET
    )


class ImportAnswer(Struct, rename="camel"):
    """An import."""

    import_job: ImportJob


class ImportStatusAnswer(ImportAnswer, kw_only=True):
    """An import and, if it has errors, the URL of its error report."""

    error_report_url: str | UnsetType = UNSET
    error_report_status: Literal["ready"] | UnsetType = UNSET
    error_report_truncated: Annotated[
        bool | UnsetType,
        Meta(description="Present, and true, if there were more errors than the report has room for."),
    ] = UNSET


class ReportedError(Struct, rename="camel"):
    """One error of one record."""

    record_index: Annotated[int, Meta(description="Counted from 0; -1 is the file as a whole.")]
    record_id: Annotated[str | None, Meta(description="The record's id, else its natural key.")]
    error_code: int
    error_name: str
    message: str
    field: str | None
    value: Annotated[Any, Meta(description="The offending value, shortened if it is long.")]
    details: Annotated[Any, Meta(extra_json_schema={"anyOf": [{"type": "object"}, {"type": "null"}]})]
    created_at: Time


class ErrorsPage(Struct, rename="camel"):
    """Errors in the order of their records."""

    errors: list[ReportedError]
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last page.")]


def import_job(job: Job) -> ImportJob:
    """The import itself."""
    source = job.source or {}
    options = asdict(options_of(job))
    for name in ("columns", "records_at", "webhook_url"):
        options[name] = UNSET if options[name] is None else options[name]
    return ImportJob(
        **common_fields(job),
        format=job.format,
        success_count=job.success_count,
        error_count=job.error_count,
        file_name=source.get("fileName"),
        file_size=source.get("fileSize"),
        source_url=source.get("url"),
        **options,
        error_summary=_summary(job),
        warnings=_warnings(job),
    )


def _warnings(job: Job) -> list[Warning]:
    counts = ReportState.of(job.checkpoint).unknown
    return [
        Warning(
            "UNKNOWN_FIELD",
            name or None,
            count,
            f"{job.resource} has no {f'field {name}' if name else 'such fields'}; ignored in {count} records",
        )
        for name, count in counts.items()
    ]


def _summary(job: Job) -> dict[str, int | LastError] | None:
    summary: dict[str, int | LastError] = dict(job.error_summary)
    if job.error is not None:
        summary["lastError"] = LastError(job.error["code"], job.error["message"])
    return summary or None


def import_status(job: Job, settings: Settings) -> ImportStatusAnswer:
    """The import and, if it has errors, the URL of its error report."""
    if not job.error_summary:
        return ImportStatusAnswer(import_job(job))
    path = f"/api/v1/imports/{job.id}/errors/download"
    return ImportStatusAnswer(
        import_job(job),
        error_report_url=settings.import_error_report_download_base_url + path,
        error_report_status="ready",
        error_report_truncated=ReportState.of(job.checkpoint).truncated or UNSET,
    )
