"""The routes of imports: create one from a file, a body or a URL, follow it, read its errors, cancel it."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, Router, delete, get, post
from litestar.response import Stream
from msgspec import Meta, Struct

from wherry.errors import (
    DownloadExpired,
    EmptyFile,
    Invalid,
    JobFailed,
    JobFinished,
    JobNotFound,
    NoErrors,
    UrlNotAllowed,
)
from wherry.http.described import (
    CANCELLING,
    JSON,
    NDJSON,
    QUEUED_FIELDS,
    REPLAYED,
    REQUIRED_KEY,
    Described,
    content_encoding,
)
from wherry.http.job_routes import (
    NEW_JOB,
    JobId,
    accepted,
    cancel_job,
    cancelled,
    find_job,
    may_steer,
    provide_job,
    shown_to,
)
from wherry.http.parameters import read_query
from wherry.http.problems import responses
from wherry.http.schemas import Binary
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.http.uploads import ENCODINGS, ImportByUrl, ImportForm, ImportQuery, WrappedImportByUrl, hand_in
from wherry.imports import rejects, report
from wherry.imports.models import Place
from wherry.imports.readers import FORMATS
from wherry.imports.readers.model import Opening
from wherry.imports.requests import CONTENT_TYPES, options_of
from wherry.imports.stored import source_text
from wherry.imports.view import (
    ErrorsPage,
    ImportAnswer,
    ImportStatusAnswer,
    import_job,
    import_status,
)
from wherry.jobs.models import Job
from wherry.jobs.states import Kind

MAX_ERRORS = 1000
DEFAULT_ERRORS = 100


class ErrorsQuery(Struct, rename="camel"):
    """Which errors to list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_ERRORS, description="Maximum number of errors.")] = DEFAULT_ERRORS
    cursor: Annotated[str | None, Meta(description="The `nextCursor` of the previous page.")] = None


@post(
    "/imports",
    status_code=202,
    request_max_body_size=None,
    described=Described(
        query=ImportQuery,
        headers=[REQUIRED_KEY, content_encoding("FileEncoding", ENCODINGS)],
        body={
            "multipart/form-data": ImportForm,
            **dict.fromkeys(sorted(CONTENT_TYPES), Binary),
            JSON: (ImportByUrl, WrappedImportByUrl),
        },
        same=REPLAYED,
        fields=QUEUED_FIELDS,
    ),
    response_description="The job is queued.",
    responses=responses(*NEW_JOB, EmptyFile, UrlNotAllowed),
)
async def import_records(request: AccountRequest, services: Injected[Services]) -> Response[ImportAnswer]:
    """Import records as a job. The body is a form with a file, the URL of a file as JSON, or the file itself.

    A JSON body counts as the file itself if `resource` is in the query.
    """
    job, replayed, fields = await hand_in(request, services)
    answer = ImportAnswer(import_job(job))
    return accepted(f"/api/v1/imports/{job.id}", answer, replayed=replayed, fields=fields)


@get(
    "/imports/{job_id:str}",
    response_description="The current state of the import.",
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def get_import(job: Injected[Job], services: Injected[Services]) -> ImportStatusAnswer:
    """An import. If it has errors, the response has the URL of its error report."""
    return import_status(job, services.settings)


@get(
    "/imports/{job_id:str}/errors",
    described=Described(query=ErrorsQuery),
    response_description="A page of errors.",
    responses=responses(*BY_TOKEN, JobNotFound, Invalid),
)
async def list_import_errors(request: AccountRequest, job_id: JobId, services: Injected[Services]) -> ErrorsPage:
    """A page of an import's errors. They are in the order of their records."""
    asked = read_query(request, ErrorsQuery)
    job = await find_job(services, job_id, owner_id=request.user.id, kind=Kind.IMPORT)
    async with services.pool.connection() as connection:
        return await report.page(connection, job.id, cursor=asked.cursor, limit=asked.limit)


@get(
    "/imports/{job_id:str}/errors/download",
    described=Described(answers={200: {NDJSON: Binary, JSON: Any}}),
    response_description="The report: ndjson, or a JSON array if the import's format was `json`.",
    responses=responses(*BY_TOKEN, JobNotFound, NoErrors),
)
async def download_import_errors(job: Injected[Job], services: Injected[Services]) -> Stream:
    """An import's error report."""
    async with services.pool.connection() as connection:
        if not await report.exists(connection, job.id):
            raise NoErrors("this import has no errors")
    extension, media_type = ("json", JSON) if FORMATS[job.format].is_array else ("ndjson", NDJSON)
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-errors.{extension}"'}
    chunks = report.stream(services.pool, job.id, FORMATS[job.format])
    return Stream(chunks, media_type=media_type, headers=headers)


@get(
    "/imports/{job_id:str}/rejects/download",
    described=Described(answers={200: {NDJSON: Binary, JSON: Any, "text/csv": Binary}}),
    response_description="The refused records, as they were sent.",
    responses=responses(*BY_TOKEN, JobNotFound, NoErrors, DownloadExpired),
)
async def download_import_rejects(job: Injected[Job], services: Injected[Services]) -> Stream:
    """The records that an import refused, in its own format, so that they can be corrected and imported again.

    csv is always in UTF-8 and begins with the header. If `recordsAt` was used, the file is an array of the records.
    """
    indexes = await rejects.read_indexes(services.pool, job.id)
    source = source_text(services.import_store, job, services.settings)
    if job.error_count and not await source.exists():
        raise DownloadExpired("the file of this import is no longer stored")
    if not indexes:
        raise NoErrors("this import has refused no records")
    table = await services.tables.find(job.resource)
    if table is None:
        raise DownloadExpired("the table of this import is no longer declared")
    format_ = FORMATS[job.format]
    opening = Opening(source, Place(), table, options_of(job), services.settings.import_max_record_bytes)
    try:
        reader = await format_.open(opening)
    except JobFailed as failed:
        raise DownloadExpired(f"the file of this import cannot be read as it was: {failed.message}") from failed
    headers = {"Content-Disposition": f'attachment; filename="{job.id}-rejects.{job.format}"'}
    return Stream(rejects.stream(format_, opening, reader, indexes), media_type=format_.content_type, headers=headers)


@delete(
    "/imports/{job_id:str}",
    status_code=200,
    dependencies=provide_job(Kind.IMPORT, may_steer),
    described=Described(same=CANCELLING),
    response_description="The job is cancelled.",
    responses=responses(*BY_TOKEN, JobNotFound, JobFinished),
)
async def cancel_import(
    request: AccountRequest, job: Injected[Job], services: Injected[Services]
) -> Response[ImportAnswer]:
    """Cancel an import. If it is running, it stops at its next checkpoint. Records already committed stay."""
    job = await cancel_job(services, job, request.user.id)
    return cancelled(job, ImportAnswer(shown_to(request.user, job, import_job(job))))


import_router = Router(
    "/",
    route_handlers=[
        import_records,
        get_import,
        list_import_errors,
        download_import_errors,
        download_import_rejects,
        cancel_import,
    ],
    dependencies=provide_job(Kind.IMPORT),
    tags=["imports"],
)
