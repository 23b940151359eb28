"""Routes for jobs of any kind: the list of the caller's jobs, and the live progress of a job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, get
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from msgspec import Meta, Struct
from msgspec.structs import asdict

from wherry.errors import Invalid, JobNotFound, Unauthenticated
from wherry.exports.view import ExportJob, export_job
from wherry.http.deliveries import list_deliveries
from wherry.http.described import Described
from wherry.http.job_routes import provide_job
from wherry.http.parameters import read_query
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.http.streams import event_stream, keep_alive, last_event_id, sse_event
from wherry.imports.view import ImportJob, import_job
from wherry.jobs import ledger, notifications
from wherry.jobs.models import Job
from wherry.jobs.notifications import IDLE, KEEP_ALIVE_SECONDS
from wherry.jobs.states import Kind, Status
from wherry.settings import Settings

MAX_JOBS = 200
DEFAULT_JOBS = 50
PROGRESS_SECONDS = 0.25
"""At most four progress events a second."""

AUTHORITY_SECONDS = 5.0
"""How often an idle stream checks whether its reader may still read it."""


class ListedImport(ImportJob, kw_only=True, tag_field="kind", tag="import"):
    """An import in a list of jobs."""


class ListedExport(ExportJob, kw_only=True, tag_field="kind", tag="export"):
    """An export in a list of jobs."""


class JobsPage(Struct, rename="camel"):
    """Jobs, newest first."""

    jobs: list[ListedImport | ListedExport]
    next_cursor: Annotated[UUID | None, Meta(description="The `cursor` of the next page; null on the last page.")]


class JobsQuery(Struct):
    """Which jobs to list."""

    kind: Annotated[Kind | None, Meta(description="Jobs of this kind only.")] = None
    status: Annotated[Status | None, Meta(description="Jobs in this state only.")] = None
    cursor: Annotated[UUID | None, Meta(description="The `nextCursor` of the previous page.")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_JOBS, description="Maximum number of jobs.")] = DEFAULT_JOBS


@get(
    "/jobs",
    described=Described(query=JobsQuery),
    response_description="A page of jobs.",
    responses=responses(*BY_TOKEN, Invalid),
)
async def list_jobs(request: AccountRequest, services: Injected[Services]) -> JobsPage:
    """Your jobs, newest first."""
    asked = read_query(request, JobsQuery)
    async with services.pool.connection() as connection:
        found = await ledger.page_of_jobs(
            connection,
            request.user.id,
            kind=asked.kind,
            status=asked.status,
            before=asked.cursor,
            limit=asked.limit + 1,
        )
    page = found[: asked.limit]
    jobs = [listed(job, services.settings) for job in page]
    return JobsPage(jobs, page[-1].id if len(found) > asked.limit else None)


@get(
    "/jobs/{job_id:str}/events",
    media_type="text/event-stream",
    described=Described(others={204: "The client already has the last event."}),
    response_description="Server-sent events.",
    responses=responses(*BY_TOKEN, JobNotFound, Invalid),
)
async def watch_job(
    request: AccountRequest, job: Injected[Job], services: Injected[Services]
) -> ServerSentEvent | Response[None]:
    """A job's progress, live. Sends `progress` at most four times a second, then one `finished`.

    The stream ends within seconds if the caller's account is deactivated or the credential is revoked.
    """
    last_seen = last_event_id(request)
    if job.finished and last_seen == _version(job):
        return Response(None, status_code=204)
    return event_stream(_live(services, request.auth, job.id, last_seen))


def listed(job: Job, settings: Settings) -> ListedImport | ListedExport:
    """A job as its own routes show it, with its kind."""
    if job.kind is Kind.IMPORT:
        return ListedImport(**asdict(import_job(job)))
    return ListedExport(**asdict(export_job(job, settings)))


async def _may_read_on(services: Services, credential: str) -> bool:
    """Whether the reader of a stream would still be allowed to open it."""
    try:
        account, _ = await services.accounts.authenticate(credential)
    except Unauthenticated:
        return False
    return account.role in services.settings.transfer_roles


async def _live(
    services: Services, credential: str, job_id: UUID, last_seen: int | None
) -> AsyncIterator[ServerSentEventMessage]:
    async def look() -> Job | None:
        async with services.pool.connection() as connection:
            return await ledger.get(connection, job_id)

    watched = notifications.watch_job(
        services.notifications, job_id, look, at_most_every=PROGRESS_SECONDS, idle_every=AUTHORITY_SECONDS
    )
    silent = 0.0
    async for job in watched:
        if not await _may_read_on(services, credential):
            return
        silent = silent + AUTHORITY_SECONDS if job is IDLE else 0.0
        if job is IDLE:
            if silent >= KEEP_ALIVE_SECONDS:
                silent = 0.0
                yield keep_alive()
            continue
        if job is None:  # retention has removed it
            return
        version = _version(job)
        if job.finished:
            yield sse_event("finished", version, listed(job, services.settings))
            return
        if version != last_seen:
            last_seen = version
            yield sse_event("progress", version, listed(job, services.settings))


def _version(job: Job) -> int:
    """Grows with every change of the job: microseconds since 1970."""
    return round(job.updated_at.timestamp() * 1_000_000)


job_router = Router(
    "/", route_handlers=[list_jobs, watch_job, list_deliveries], dependencies=provide_job(), tags=["jobs"]
)
