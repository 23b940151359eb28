"""Examples for the OpenAPI document: of every JSON body and of every JSON response, by operation."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct
from msgspec.structs import asdict, fields, replace

from wherry.capsules.view import CapsuleAccepted, CapsuleEvent, CapsuleEvents, CapsuleFile, CapsuleJob
from wherry.exports.view import ExportAnswer, ExportJob
from wherry.http.accounts import LinkAnswer, UserAnswer, UserFields
from wherry.http.api_tokens import ApiTokenFields, ApiTokensAnswer, NewApiTokenAnswer, NewApiTokenFields
from wherry.http.deliveries import DeliveriesAnswer, DeliveryAttempt, WebhookDelivery
from wherry.http.health import Health, Liveness
from wherry.http.job_list import JobsPage, ListedExport, ListedImport
from wherry.http.jobs import JobAnswer, Timeline, TimelineEvent
from wherry.http.resources import RecordSchemas, ResourceItem, ResourceList
from wherry.imports.models import OnConflict, UnknownFields
from wherry.imports.view import ErrorsPage, ImportAnswer, ImportJob, ImportStatusAnswer, ReportedError
from wherry.jobs.states import Kind, Status
from wherry.jobs.steering import KindState, QueueOverview, WorkerState
from wherry.jobs.view import AnyJob, JobError

_CREATED, _STARTED, _ENDED = "2026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.210Z", "2026-01-31T12:00:04.870Z"
_EXPIRES = "2026-02-01T12:00:04.870Z"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_IMPORT_ID = UUID("019c1456-7a00-7c3e-9d52-6f1b8a40e2d7")
_EXPORT_ID = UUID("019c1456-7e90-7b14-8c07-d3a95f6e10b2")
_CAPSULE_ID = UUID("019c1456-8350-7f08-a1c6-2b7e94d05f83")

Example = TypeVar("Example", bound=Struct)


def _example(shape: type[Example], **given: Any) -> Example:
    """A Struct whose other fields are null, or absent if they may be."""
    others = [each.name for each in fields(shape) if each.default is not UNSET]
    return shape(**dict.fromkeys(others) | given)


_QUEUED = {"status": Status.QUEUED, "processed_records": 0, "progress": 0.0, "created_at": _CREATED}
_QUEUED_IMPORT = _example(
    ImportJob,
    id=_IMPORT_ID,
    **_QUEUED,
    entity_type="articles",
    format="ndjson",
    success_count=0,
    error_count=0,
    idempotency_key="import-articles-001",
    file_name="articles.ndjson",
    file_size=184320,
    on_conflict=OnConflict.ERROR,
    dry_run=False,
    atomic=False,
    unknown_fields=UnknownFields.IGNORE,
    warnings=[],
)
_PARTIAL_IMPORT = replace(
    _QUEUED_IMPORT,
    status=Status.PARTIAL,
    total_records=1000,
    processed_records=1000,
    success_count=998,
    error_count=2,
    started_at=_STARTED,
    completed_at=_ENDED,
    progress=100.0,
    error_summary={"INVALID_FIELD_FORMAT.slug": 1, "DUPLICATE_VALUE.slug": 1},
)
_ERROR = ReportedError(
    record_index=41,
    record_id="Hello World",
    error_code=1003,
    error_name="INVALID_FIELD_FORMAT",
    message="Slug must be in kebab case: a-z, 0-9 and single hyphens",
    field="slug",
    value="Hello World",
    details=None,
    created_at=_ENDED,
)
_FAILED_JOB = _example(
    AnyJob,
    **{**_QUEUED, "status": Status.FAILED, "processed_records": 5000, "progress": 41.2},
    id=_IMPORT_ID,
    kind=Kind.IMPORT,
    entity_type="articles",
    format="ndjson",
    owner_id=1,
    success_count=4998,
    error_count=2,
    stage="failed",
    started_at=_STARTED,
    completed_at=_ENDED,
    idempotency_key="import-articles-001",
    error=JobError("STORAGE_ERROR", "The storage does not respond", 5002),
    error_summary={"INVALID_FIELD_FORMAT.slug": 1, "DUPLICATE_VALUE.slug": 1},
    file_name="articles.ndjson",
    file_size=184320,
    round=1,
    epoch=1,
    cancel_requested=False,
    retryable=True,
)
_RETRIED_JOB = replace(
    _FAILED_JOB,
    status=Status.QUEUED,
    progress=0.0,
    stage="queued",
    message="Queued again",
    completed_at=None,
    error=None,
    round=2,
    retryable=False,
)
_CANCELLED_JOB = replace(_RETRIED_JOB, status=Status.CANCELLED, stage="cancelled", message="Cancelled", retryable=True)
_TIMELINE = Timeline(
    [
        TimelineEvent(type="created", ts=_CREATED, round=1, epoch=0),
        TimelineEvent(type="claimed", ts=_STARTED, round=1, epoch=1, worker="host-1:4711"),
        TimelineEvent(type="ended", ts=_ENDED, round=1, epoch=1, status="failed", code="STORAGE_ERROR"),
    ]
)
_QUEUE = QueueOverview(
    {
        Kind.IMPORT: KindState(3, 2, 1.4, False),
        Kind.EXPORT: KindState(0, 1, None, False),
        Kind.CAPSULE: KindState(12, 0, 340.0, True),
    },
    [WorkerState("host-1", 4711, "0.2.0", 0.8, [_IMPORT_ID])],
)
_CANCELLED_IMPORT = replace(_QUEUED_IMPORT, status=Status.CANCELLED, completed_at=_STARTED)

_RECORD = {"id": 12, "email": "alice@example.com", "name": "Alice"}
_QUEUED_EXPORT = _example(
    ExportJob,
    id=_EXPORT_ID,
    **_QUEUED,
    entity_type="users",
    format="ndjson",
    compression="gzip",
    csv_escape_formulas=False,
    fields=["id", "email", "name"],
    filters={"active": True},
    truncated=False,
)
_SUCCEEDED_EXPORT = replace(
    _QUEUED_EXPORT,
    status=Status.SUCCEEDED,
    total_records=12000,
    processed_records=12000,
    started_at=_STARTED,
    completed_at=_ENDED,
    expires_at=_EXPIRES,
    progress=100.0,
    download_url=f"/api/v1/exports/{_EXPORT_ID}/download",
    file_name=f"{_EXPORT_ID}.ndjson.gz",
    file_size=241830,
    sha256=_SHA256,
    content_type="application/gzip",
)
_CANCELLED_EXPORT = replace(_QUEUED_EXPORT, status=Status.CANCELLED, completed_at=_STARTED)
_DELIVERY = WebhookDelivery(
    id=f"msg_{_EXPORT_ID.hex}_1",
    url="https://hooks.example.com/wherry",
    type="job.succeeded",
    status="delivered",
    next_attempt_at=None,
    attempts=[
        DeliveryAttempt(1, _ENDED, 502, "The URL responded with status 502", 84),
        DeliveryAttempt(2, "2026-01-31T12:00:09.960Z", 204, None, 61),
    ],
)

_QUEUED_CAPSULE = CapsuleAccepted(
    job_id=_CAPSULE_ID,
    status="queued",
    progress=0,
    current_stage="queued",
    stage_progress=0,
    message="Queued for export",
    created_at=_CREATED,
)
_COMPLETED_CAPSULE = CapsuleJob(
    job_id=_CAPSULE_ID,
    status="completed",
    progress=100,
    current_stage="download_ready",
    stage_progress=100,
    message="Capsule ready to download",
    created_at=_CREATED,
    elapsed_ms=4660,
    last_event_seq=9,
    updated_at=_ENDED,
    artifact=CapsuleFile(
        file_name="my-project-gitnexus-mem_capsule-2026-01-31.mv2",
        download_url=f"/v1/exports/{_CAPSULE_ID}/download",
        expires_at=_EXPIRES,
        size_bytes=1048576,
        sha256=_SHA256,
        search="full",
    ),
    error=None,
)
_CANCELED_CAPSULE = replace(
    _COMPLETED_CAPSULE,
    status="canceled",
    current_stage="canceled",
    message="Cancelled",
    progress=0,
    stage_progress=0,
    artifact=None,
)
_CAPSULE_EVENT = CapsuleEvent(
    seq=9,
    ts=_ENDED,
    job_id=_CAPSULE_ID,
    type="job_completed",
    stage="download_ready",
    progress=100,
    stage_progress=100,
    emoji="✅",
    message="Capsule ready to download",
    meta=None,
)

_USER = UserAnswer(UserFields(1, "alice@example.com", "alice", None, None, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.…"))
_TOKEN = ApiTokenFields("019c1456-8810-7d21-b4f9-5e03c7a816f4", "nightly import", "whr_7Qm2xK", _CREATED, None, None)
_LIVE = Liveness(_CREATED)
_READY = Health("ok", {"database": "ok", "migrations": "ok", "storage": "ok", "workers": "ok"})

_RESOURCE = ResourceItem(
    name="suppliers",
    table="shop.supplier",
    key=["id"],
    fields=["id", "email"],
    filters=["id", "email"],
    can_import=False,
    can_export=True,
)

RESPONSES: dict[str, object] = {
    "register": _USER,
    "logIn": _USER,
    "getCurrentUser": _USER,
    "updateCurrentUser": _USER,
    "setPassword": _USER,
    "createOnboardingLink": LinkAnswer("https://wherry.example/set-password#token=Jx3…", _EXPIRES),
    "createApiToken": NewApiTokenAnswer(NewApiTokenFields(**asdict(_TOKEN), token="whr_7Qm2xK…")),
    "listApiTokens": ApiTokensAnswer([_TOKEN]),
    "importRecords": ImportAnswer(_QUEUED_IMPORT),
    "getImport": ImportStatusAnswer(
        _PARTIAL_IMPORT,
        error_report_url=f"/api/v1/imports/{_IMPORT_ID}/errors/download",
        error_report_status="ready",
    ),
    "listImportErrors": ErrorsPage([_ERROR], next_cursor="NDEuMQ"),
    "downloadImportErrors": [_ERROR],
    "downloadImportRejects": [{"id": 41, "title": ""}],
    "cancelImport": ImportAnswer(_CANCELLED_IMPORT),
    "createExport": ExportAnswer(_QUEUED_EXPORT),
    "getExport": ExportAnswer(_SUCCEEDED_EXPORT),
    "cancelExport": ExportAnswer(_CANCELLED_EXPORT),
    "readRecords": {"data": [_RECORD], "nextCursor": 12},
    "downloadExport": [_RECORD],
    "headExport": [_RECORD],
    "listResources": ResourceList([_RESOURCE]),
    "getRecordSchemas": RecordSchemas(
        "suppliers",
        {
            "type": "object",
            "properties": {"id": {"type": "integer"}, "email": {"type": "string"}},
            "required": ["id", "email"],
            "additionalProperties": False,
        },
        None,
    ),
    "listJobs": JobsPage([ListedExport(**asdict(_SUCCEEDED_EXPORT)), ListedImport(**asdict(_PARTIAL_IMPORT))], None),
    "listDeliveries": DeliveriesAnswer([_DELIVERY]),
    "getJob": JobAnswer(_FAILED_JOB),
    "getJobTimeline": _TIMELINE,
    "cancelAnyJob": JobAnswer(_CANCELLED_JOB),
    "retryJob": JobAnswer(_RETRIED_JOB),
    "getQueue": _QUEUE,
    "pauseQueue": _QUEUE,
    "resumeQueue": _QUEUE,
    "createCapsule": _QUEUED_CAPSULE,
    "getCapsule": _COMPLETED_CAPSULE,
    "cancelCapsule": _CANCELED_CAPSULE,
    "listCapsuleEvents": CapsuleEvents(
        job_id=_CAPSULE_ID, events=[_CAPSULE_EVENT], next_seq=10, status_snapshot=_COMPLETED_CAPSULE
    ),
    "getLiveness": _LIVE,
    "headLiveness": _LIVE,
    "getReadiness": _READY,
    "headReadiness": _READY,
}

BODIES: dict[str, dict[str, Any]] = {
    "register": {"user": {"username": "alice", "email": "alice@example.com", "password": "correct horse battery"}},
    "logIn": {"user": {"email": "alice@example.com", "password": "correct horse battery"}},
    "updateCurrentUser": {"user": {"bio": "Moves data in bulk.", "image": None}},
    "requestPasswordReset": {"email": "alice@example.com"},
    "setPassword": {"token": "Jx3…", "password": "correct horse battery"},
    "createApiToken": {"name": "nightly import", "expiresAt": "2027-01-31T12:00:00.000Z"},
    "importRecords": {"resource": "articles", "url": "https://example.com/articles.ndjson", "onConflict": "update"},
    "createExport": {
        "resource": "users",
        "format": "ndjson",
        "compression": "gzip",
        "fields": ["id", "email", "name"],
        "filters": {"active": True},
    },
    "createCapsule": {
        "sessionId": "session-1",
        "projectName": "my-project",
        "source": {"type": "github", "baseName": "my-project", "url": "https://github.com/example/my-project"},
        "nodes": [
            {"id": "f1", "label": "File", "properties": {"name": "main.py", "filePath": "main.py"}},
            {
                "id": "n1",
                "label": "Function",
                "properties": {"name": "main", "filePath": "main.py", "startLine": 0, "endLine": 1},
            },
        ],
        "relationships": [{"id": "r1", "sourceId": "f1", "targetId": "n1", "type": "DEFINES", "confidence": 1.0}],
        "fileContents": {"main.py": "def main():\n    print('hello')\n"},
        "options": {"maxSnippetChars": 1200},
    },
}
