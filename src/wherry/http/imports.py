"""The routes of imports: a file, a body or a URL comes in; a job, its counters and its errors go out.

In: requests of accounts that may move records. Out: 202 once the source is safe and the job is queued, in one
transaction; then the job's state and its error report.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream

from wherry.accounts.models import Account
from wherry.database.pools import brief_transaction
from wherry.errors import (
    EmptyFile,
    Invalid,
    JobFinished,
    JobNotFound,
    NoErrors,
    UrlNotAllowed,
)
from wherry.http.described import (
    BINARY,
    CANCELLING,
    FLAG,
    JSON,
    NDJSON,
    NULL,
    OBJECT,
    QUEUED_FIELDS,
    REPLAYED,
    RESOURCE,
    TEXT,
    content_encoding,
    described,
    either,
    idempotency,
    members,
    nullable,
    one_of,
    query,
    some,
    whole,
    wrapped_or_bare,
)
from wherry.http.job_answers import NEW_JOB, accepted, cancelled
from wherry.http.jobs import find_job
from wherry.http.parameters import Query
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN
from wherry.http.services import Injected, Services
from wherry.http.uploads import ENCODINGS, hand_in
from wherry.imports import report
from wherry.imports.models import Format, OnConflict
from wherry.imports.requests import CONTENT_TYPES
from wherry.imports.view import (
    ErrorsPage,
    ImportAnswer,
    ImportStatusAnswer,
    ReportedError,
    import_job,
    import_status,
)
from wherry.jobs import ledger
from wherry.jobs.states import FINISHED, Kind, Status

TAGS = ["imports"]
MAX_ERRORS = 1000
DEFAULT_ERRORS = 100

OPTIONS = {
    "format": one_of(*Format),
    "onConflict": one_of(*OnConflict),
    "dryRun": FLAG,
    "atomic": FLAG,
}
_WORD_OR_FLAG = either(FLAG, one_of("true", "false"), NULL)
BY_URL = members(
    ["resource", "url"],
    resource=RESOURCE,
    url=TEXT,
    format=nullable(OPTIONS["format"]),
    onConflict=nullable(OPTIONS["onConflict"]),
    dryRun=_WORD_OR_FLAG,
    atomic=_WORD_OR_FLAG,
)


@post(
    "/imports",
    summary="Import records as a job",
    tags=TAGS,
    status_code=202,
    request_max_body_size=None,
    operation_class=described(
        parameters=[
            idempotency(required=True),
            query("resource", RESOURCE, "What the records are, where the body is the file itself."),
            *(query(name, schema, "Where the body is the file itself.") for name, schema in OPTIONS.items()),
            query("fileName", TEXT, "Tells the format and compression, where the body is the file itself."),
            content_encoding(*ENCODINGS),
        ],
        body={
            "multipart/form-data": members(["file", "resource"], file=BINARY, resource=RESOURCE, **OPTIONS),
            **dict.fromkeys(sorted(CONTENT_TYPES), BINARY),
            JSON: either(wrapped_or_bare("import", BY_URL), some(OBJECT)),
        },
        same=REPLAYED,
        fields=QUEUED_FIELDS,
    ),
    response_description="The job is queued.",
    responses=responses(*NEW_JOB, EmptyFile, UrlNotAllowed),
)
async def create(request: Request[Account, Any, Any], services: Injected[Services]) -> Response[ImportAnswer]:
    """Takes a form with a file, a file as the body, or a URL; needs an `Idempotency-Key`."""
    job, replayed, fields = await hand_in(request, services)
    answer = ImportAnswer(import_job(job))
    return accepted(f"/api/v1/imports/{job.id}", answer, replayed=replayed, fields=fields)


@get(
    "/imports/{job_id:str}",
    summary="An import job",
    tags=TAGS,
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def show(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> ImportStatusAnswer:
    """The job as it is now, and where its error report is."""
    return import_status(await find_job(services, request.user.id, job_id, Kind.IMPORT), services.settings)


@get(
    "/imports/{job_id:str}/errors",
    summary="A page of an import's errors",
    tags=TAGS,
    operation_class=described(
        parameters=[
            query("limit", whole(1, MAX_ERRORS), f"Errors at the most; by default {DEFAULT_ERRORS}."),
            query("cursor", TEXT, "The `nextCursor` of the page before."),
        ],
    ),
    responses=responses(*BY_TOKEN, JobNotFound, Invalid),
)
async def errors(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> ErrorsPage:
    """Errors in the order of their records."""
    asked = Query.of(request, "limit", "cursor")
    limit = asked.whole("limit", least=1, most=MAX_ERRORS, default=DEFAULT_ERRORS)
    job = await find_job(services, request.user.id, job_id, Kind.IMPORT)
    async with services.pool.connection() as connection:
        page = await report.page(connection, job.id, cursor=asked.text("cursor"), limit=limit)
    return ErrorsPage(msgspec.convert(page.errors, list[ReportedError]), page.next_cursor)


@get(
    "/imports/{job_id:str}/errors/download",
    summary="An import's error report",
    tags=TAGS,
    operation_class=described(answers={200: (NDJSON, JSON)}),
    responses=responses(*BY_TOKEN, JobNotFound, NoErrors),
)
async def download_errors(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> Stream:
    """Every error, streamed: a line each, or one array for an import of an array."""
    job = await find_job(services, request.user.id, job_id, Kind.IMPORT)
    async with services.pool.connection() as connection:
        if not await report.exists(connection, job.id):
            raise NoErrors("this import has no errors")
    lines = job.format == Format.NDJSON
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-errors.{job.format}"'}
    media_type = "application/x-ndjson" if lines else "application/json"
    chunks = report.stream(services.pool, job.id, Format(job.format))
    return Stream(chunks, media_type=media_type, headers=headers)


@delete(
    "/imports/{job_id:str}",
    summary="Cancel an import",
    tags=TAGS,
    status_code=200,
    operation_class=described(same=CANCELLING),
    response_description="The job was queued, or cancelled before: it does not run.",
    responses=responses(*BY_TOKEN, JobNotFound, JobFinished),
)
async def cancel(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> Response[ImportAnswer]:
    """A running import stops at its next checkpoint. Records that it has committed stay."""
    found = await find_job(services, request.user.id, job_id, Kind.IMPORT)
    async with brief_transaction(services.pool) as connection:
        job = await ledger.cancel(connection, found.id) or found
    return cancelled(job, ImportAnswer(import_job(job)), ended=FINISHED - {Status.CANCELLED})


def import_routes() -> list[HTTPRouteHandler]:
    """Every route of imports, below `/api/v1`."""
    return [create, show, errors, download_errors, cancel]
