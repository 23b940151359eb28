"""The routes of exports: a page of records at once, or a file of any number of records, made by a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode

import psycopg
from litestar import HttpMethod, Response, Router, delete, get, post, route
from litestar.response import Stream
from msgspec import Meta, Struct

from wherry.accounts.quota import admission, admit
from wherry.errors import (
    DatabaseUnavailable,
    DownloadExpired,
    Invalid,
    JobFinished,
    JobNotFound,
    NotReady,
    PreconditionFailed,
    RangeNotSatisfiable,
    UnsupportedFormat,
    UnsupportedResource,
    UrlNotAllowed,
)
from wherry.exports.compression import COMPRESSIONS
from wherry.exports.formats import FORMATS, PAGE_FORMATS
from wherry.exports.page import check_values, open_page
from wherry.exports.requests import parse_export, parse_page
from wherry.exports.view import ExportAnswer, export_job
from wherry.http.deliveries import WEBHOOK_URL
from wherry.http.described import (
    CANCELLING,
    IDEMPOTENCY_KEY,
    JSON,
    NDJSON,
    OCTETS,
    QUEUED_FIELDS,
    REPLAYED,
    Described,
)
from wherry.http.downloads import ArtifactFile, download_response
from wherry.http.idempotency import idempotency_key
from wherry.http.job_routes import (
    NEW_JOB,
    accepted,
    cancel_job,
    cancelled,
    may_steer,
    owns,
    provide_job,
    shown_to,
)
from wherry.http.parameters import object_in, query_of
from wherry.http.problems import responses
from wherry.http.schemas import Binary, TableName, one_of
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.jobs import ledger
from wherry.jobs.models import Job, NewJob, new_job_id
from wherry.jobs.queue import submit
from wherry.jobs.states import Kind, Status
from wherry.tables.registry import exportable_by

Filters: TypeAlias = Annotated[str, Meta(extra_json_schema={"contentMediaType": JSON})]
Words: TypeAlias = Annotated[str, Meta(min_length=1)]
ExportFormat: TypeAlias = Annotated[str, one_of("ExportFormat", FORMATS)]
PageFormat: TypeAlias = Annotated[str, one_of("PageFormat", PAGE_FORMATS)]
Compression: TypeAlias = Annotated[str, one_of("Compression", COMPRESSIONS)]
References: TypeAlias = Annotated[
    Literal["key"],
    Meta(
        description="If `key`, columns that refer to other tables are replaced as far as that is declared: `author` "
        '`{"email": …}` for `author_id`. By default, they have their own values.'
    ),
]
FILE = {
    NDJSON: Binary,
    JSON: Any,
    **dict.fromkeys(("text/csv", OCTETS, "application/gzip", "application/zstd"), Binary),
}
DEFINITION_CHANGED = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InsufficientPrivilege,
)
MAX_BODY_BYTES = 1 << 20


class NewExport(Struct, rename="camel"):
    """An export to create."""

    resource: TableName
    format: Annotated[ExportFormat | None, Meta(description="By default `ndjson`.")] = None
    compression: Annotated[Compression | None, Meta(description="By default, the file is not compressed.")] = None
    filters: Annotated[
        dict[str, Any] | Filters | None,
        Meta(description="Maps fields to values, or to objects of `gt`, `gte`, `lt`, `lte`. By default, all records."),
    ] = None
    fields: Annotated[
        Words | Annotated[list[Words], Meta(min_length=1)] | None,
        Meta(description="The fields of each record, in order: an array, or separated by commas. By default, all."),
    ] = None
    references: References | None = None
    csv_escape_formulas: Annotated[
        bool | None,
        Meta(
            description="Whether to escape text that spreadsheets would run as a formula. By default false. "
            "A file with escaped text does not import back exactly."
        ),
    ] = None
    webhook_url: Annotated[str | None, WEBHOOK_URL] = None


class WrappedExport(Struct):
    """An export to create, inside the member `export`."""

    export: NewExport


class PageQuery(Struct):
    """Which records to read."""

    resource: TableName
    format: Annotated[PageFormat | None, Meta(description="By default `ndjson`.")] = None
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Maximum number of records. By default, the most that the server allows."),
    ] = None
    cursor: Annotated[int | str | None, Meta(description="The `nextCursor` of the previous page.")] = None
    filters: Annotated[
        Filters | None,
        Meta(description="A JSON object that maps a field to a value or a range. Or use `filters[field]=value`."),
    ] = None
    fields: Annotated[
        str | None,
        Meta(description="Fields separated by commas, or as a JSON array. Or use `fields[]=name`."),
    ] = None
    references: References | None = None


@get(
    "/exports",
    described=Described(query=PageQuery, answers={200: {NDJSON: Binary, JSON: Any}}),
    response_description="A page of records.",
    responses=responses(*BY_TOKEN, Invalid, UnsupportedResource, UnsupportedFormat),
)
async def read_records(request: AccountRequest, services: Injected[Services]) -> Stream:
    """A page of records. They are in the order of their ids, after `cursor`."""
    given = query_of(request)
    filters = object_in(given, "filters")
    tables = exportable_by(await services.tables.current(), request.user.role)
    asked = parse_page(given, tables, filters, max_limit=services.settings.export_stream_max_limit)
    try:
        answer = await open_page(services.pool, asked)
    except DEFINITION_CHANGED:
        if asked.selection.table.is_built_in:
            raise
        await services.tables.reread()
        raise DatabaseUnavailable(f"the table {asked.selection.table.name} has changed; try again") from None
    headers = {"Cache-Control": "no-store"} | _next_link(request, answer.next_cursor)
    return Stream(aiter(answer), media_type=answer.content_type, headers=headers)


@post(
    "/exports",
    status_code=202,
    request_max_body_size=MAX_BODY_BYTES,
    described=Described(
        headers=[IDEMPOTENCY_KEY],
        body={JSON: (NewExport, WrappedExport)},
        same=REPLAYED,
        fields=QUEUED_FIELDS,
    ),
    response_description="The job is queued.",
    responses=responses(*NEW_JOB, UrlNotAllowed),
)
async def create_export(request: AccountRequest, services: Injected[Services]) -> Response[ExportAnswer]:
    """Export records as a job. The artifact will be one consistent snapshot of the database."""
    tables = exportable_by(await services.tables.current(), request.user.role)
    asked = parse_export(await request.json(), tables)
    asked = replace(asked, webhook_url=services.webhook_urls.requested(asked.webhook_url))
    new = NewJob(
        id=new_job_id(),
        kind=Kind.EXPORT,
        owner_id=request.user.id,
        resource=asked.selection.table.name,
        format=asked.format,
        options=asked.options(),
        idempotency_key=idempotency_key(request, required=False),
        fingerprint=asked.fingerprint,
        webhook_url=services.webhook_urls.of_job(asked.webhook_url),
    )
    async with admission(services.pool, Kind.EXPORT, request.user.id) as connection:
        await check_values(connection, asked.selection)
        job, replayed = await submit(connection, new)
        fields = {} if replayed else await admit(connection, Kind.EXPORT, request.user.id, services.settings)
    answer = ExportAnswer(export_job(job, services.settings))
    return accepted(f"/api/v1/exports/{job.id}", answer, replayed=replayed, fields=fields)


@get(
    "/exports/{job_id:str}",
    response_description="The current state of the export.",
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def get_export(job: Injected[Job], services: Injected[Services]) -> ExportAnswer:
    """An export."""
    return ExportAnswer(export_job(job, services.settings))


@route(
    "/exports/{job_id:str}/download",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    described=Described.file(FILE),
    response_description="The file.",
    responses=responses(*BY_TOKEN, JobNotFound, NotReady, DownloadExpired, PreconditionFailed, RangeNotSatisfiable),
)
async def download_export(request: AccountRequest, job: Injected[Job], services: Injected[Services]) -> Response[Any]:
    """An export's artifact."""
    if job.status is not Status.SUCCEEDED or job.artifact is None:
        raise NotReady(f"the export is {job.status}: there is nothing to download")
    if job.artifact_is_past:
        raise DownloadExpired("the artifact has expired")
    return await download_response(request, services.export_store, ArtifactFile.of(job.artifact), services.settings)


@delete(
    "/exports/{job_id:str}",
    status_code=200,
    dependencies=provide_job(Kind.EXPORT, may_steer),
    described=Described(same=CANCELLING),
    response_description="The job is cancelled, or had succeeded and its artifact is deleted.",
    responses=responses(*BY_TOKEN, JobNotFound, JobFinished),
)
async def cancel_export(
    request: AccountRequest, job: Injected[Job], services: Injected[Services]
) -> Response[ExportAnswer]:
    """Cancel an export, or delete its artifact. A running export stops and leaves no file.

    Only the owner can delete an artifact.
    """
    job = await cancel_job(services, job, request.user.id)
    if owns(request.user, job) and job.status is Status.SUCCEEDED:
        job = await _delete_artifact(services, job)
        return cancelled(job, ExportAnswer(export_job(job, services.settings)), ended=())
    return cancelled(job, ExportAnswer(shown_to(request.user, job, export_job(job, services.settings))))


async def _delete_artifact(services: Services, job: Job) -> Job:
    async with services.pool.connection() as connection:
        job = await ledger.expire_artifact(connection, job.id) or job
    if job.artifact is not None:
        await services.export_store.delete(job.artifact["key"])
    return job


def _next_link(request: AccountRequest, cursor: int | str | None) -> dict[str, str]:
    """The `Link` header for the next page (RFC 8288): the same query with the next cursor."""
    if cursor is None:
        return {}
    pairs = [(name, value) for name, value in request.query_params.items() if name != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'}


export_router = Router(
    "/",
    route_handlers=[read_records, create_export, get_export, download_export, cancel_export],
    dependencies=provide_job(Kind.EXPORT),
    tags=["exports"],
)
