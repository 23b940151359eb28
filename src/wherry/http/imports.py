"""The routes of imports: a file, a body or a URL comes in; a job, its counters and its errors go out.

In: requests of accounts that may move records. Out: 202 once the source is safe and the job is queued, in one
transaction; then the job's state and its error report.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from wherry.accounts.models import Account
from wherry.errors import Conflict, NotFound
from wherry.http.described import (
    BINARY,
    CANCELLING,
    FLAG,
    JSON,
    NDJSON,
    REPLAYED,
    RESOURCE,
    TEXT,
    described,
    idempotency,
    members,
    one_of,
    query,
)
from wherry.http.jobs import find
from wherry.http.problems import responses
from wherry.http.requests import digits
from wherry.http.services import Injected, Services
from wherry.http.uploads import hand_in
from wherry.imports import report
from wherry.imports.models import Format, OnConflict
from wherry.imports.view import import_job, import_status
from wherry.jobs import ledger
from wherry.jobs.models import Job
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

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ERRORS, required=False)]


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
        ],
        body={
            "multipart/form-data": members(["file", "resource"], file=BINARY, resource=RESOURCE, **OPTIONS),
            JSON: members([], resource=RESOURCE, url=TEXT, **OPTIONS),
            NDJSON: BINARY,
        },
    ),
    responses=responses(401, 403, 413, 415, 422, 429) | REPLAYED,
)
async def create(request: Request[Account, Any, Any], services: Injected[Services]) -> Response[dict[str, Any]]:
    """Takes a form with a file, a file as the body, or a URL; needs an `Idempotency-Key`."""
    job, replayed, headers = await hand_in(request, services)
    headers = {"Location": f"/api/v1/imports/{job.id}", **headers}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    body = {"importJob": import_job(job, services.settings)}
    return Response(body, status_code=200 if replayed else 202, headers=headers)


@get("/imports/{job_id:str}", summary="An import job", tags=TAGS, responses=responses(401, 403, 404))
async def show(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> dict[str, Any]:
    """The job as it is now, and where its error report is."""
    return import_status(await find(services, request.user.id, job_id, Kind.IMPORT), services.settings)


@get(
    "/imports/{job_id:str}/errors",
    summary="A page of an import's errors",
    tags=TAGS,
    guards=[digits("limit")],
    responses=responses(401, 403, 404, 422),
)
async def errors(
    request: Request[Account, Any, Any],
    job_id: FromPath[str],
    services: Injected[Services],
    cursor: FromQuery[str | None] = None,
    limit: Limit = DEFAULT_ERRORS,
) -> dict[str, Any]:
    """Errors in the order of their records; `nextCursor` is null behind the last."""
    job = await find(services, request.user.id, job_id, Kind.IMPORT)
    async with services.pool.connection() as connection:
        page = await report.page(connection, job.id, cursor=cursor, limit=limit)
    return {"errors": page.errors, "nextCursor": page.next_cursor}


@get(
    "/imports/{job_id:str}/errors/download",
    summary="An import's error report",
    tags=TAGS,
    operation_class=described(answers={200: (NDJSON, JSON)}),
    responses=responses(401, 403, 404),
)
async def download_errors(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> Stream:
    """Every error, streamed: a line each, or one array for an import of an array."""
    job = await find(services, request.user.id, job_id, Kind.IMPORT)
    async with services.pool.connection() as connection:
        if not await report.exists(connection, job.id):
            raise NotFound("this import has no error", code="NO_ERRORS")
    lines = job.format == Format.NDJSON
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-errors.{job.format}"'}
    media_type = "application/x-ndjson" if lines else "application/json"
    return Stream(_report(services, job), media_type=media_type, headers=headers)


@delete(
    "/imports/{job_id:str}",
    summary="Cancel an import",
    tags=TAGS,
    status_code=200,
    responses=responses(401, 403, 404, 409) | CANCELLING,
)
async def cancel(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> Response[dict[str, Any]]:
    """202 while it runs: it stops at its next checkpoint; 200 where it was queued or is cancelled already."""
    found = await find(services, request.user.id, job_id, Kind.IMPORT)
    async with services.pool.connection() as connection, connection.transaction():
        job = await ledger.cancel(connection, found.id) or found
    if job.status in FINISHED - {Status.CANCELLED}:
        raise Conflict(f"the job has ended as {job.status}", code="JOB_FINISHED")
    status = 202 if job.status is Status.RUNNING else 200
    return Response({"importJob": import_job(job, services.settings)}, status_code=status)


async def _report(services: Services, job: Job) -> AsyncIterator[bytes]:
    async with services.pool.connection() as connection:
        async for chunk in report.stream(connection, job.id, Format(job.format)):
            yield chunk


def import_routes() -> list[HTTPRouteHandler]:
    """Every route of imports, below `/api/v1`."""
    return [create, show, errors, download_errors, cancel]
