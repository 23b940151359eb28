"""An import job as the API shows it.

In: a `Job` of the kind import. Out: the members of `importJob`, and where its error report is.
"""

from __future__ import annotations

from typing import Any

from wherry.imports.bookkeeping import ReportState
from wherry.imports.requests import options_of
from wherry.jobs.models import Job
from wherry.settings import Settings
from wherry.times import rfc3339


def import_job(job: Job, settings: Settings) -> dict[str, Any]:
    """The `importJob` object."""
    source = job.source or {}
    options = options_of(job)
    return {
        "id": str(job.id),
        "status": job.status,
        "entityType": job.resource,
        "format": job.format,
        "totalRecords": job.total_records,
        "processedRecords": job.processed_records,
        "successCount": job.success_count,
        "errorCount": job.error_count,
        "createdAt": rfc3339(job.created_at),
        "startedAt": rfc3339(job.started_at),
        "completedAt": rfc3339(job.completed_at),
        "idempotencyKey": job.idempotency_key,
        "fileName": source.get("fileName"),
        "fileSize": source.get("fileSize"),
        "sourceUrl": source.get("url"),
        "onConflict": options.on_conflict,
        "dryRun": options.dry_run,
        "atomic": options.atomic,
        "progress": round(job.progress, 1),
        "errorSummary": _summary(job),
        "error": job.error,
    }


def _summary(job: Job) -> dict[str, Any] | None:
    """Errors by name and field, and what ended the job, if something did; None if there is neither."""
    last = {} if job.error is None else {"lastError": {"code": job.error["code"], "message": job.error["message"]}}
    return {**job.error_summary, **last} or None


def import_status(job: Job, settings: Settings) -> dict[str, Any]:
    """The answer to a question after one import: the job, and its error report where there is an error."""
    answer: dict[str, Any] = {"importJob": import_job(job, settings)}
    if job.error_summary:
        path = f"/api/v1/imports/{job.id}/errors/download"
        answer["errorReportUrl"] = settings.import_error_report_download_base_url + path
        answer["errorReportStatus"] = "ready"
        if ReportState.of(job.checkpoint).truncated:
            answer["errorReportTruncated"] = True
    return answer
