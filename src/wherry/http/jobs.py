"""Jobs of every kind, in one place: the caller's list, and each job's progress as it happens.

In: an account. Out: its own jobs; somebody else's job and one that never was are the same 404.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from wherry.accounts.models import Account
from wherry.errors import Invalid, JobNotFound, Unauthenticated
from wherry.exports.view import export_job
from wherry.http.answers import JobsPage
from wherry.http.described import UUID_TEXT, also, answered, described, one_of, query, whole
from wherry.http.parameters import Query
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN
from wherry.http.services import Injected, Services
from wherry.http.streams import event_stream, keep_alive, last_event_id, sse_event
from wherry.imports.view import import_job
from wherry.jobs import ledger
from wherry.jobs.models import Job
from wherry.jobs.notifications import IDLE, KEEP_ALIVE_SECONDS, watch_job
from wherry.jobs.states import Kind, Status
from wherry.settings import Settings

MAX_JOBS = 200
DEFAULT_JOBS = 50
PROGRESS_SECONDS = 0.25
"""At most four progress events a second."""

AUTHORITY_SECONDS = 5.0
"""How often a silent stream checks whether its reader may still have it."""


@get(
    "/jobs",
    summary="Your jobs, newest first",
    operation_class=described(
        parameters=[
            query("kind", one_of(*Kind), "Of this kind only."),
            query("status", one_of(*Status), "In this state only."),
            query("cursor", UUID_TEXT, "The `nextCursor` of the page before."),
            query("limit", whole(1, MAX_JOBS), f"Most jobs; by default {DEFAULT_JOBS}."),
        ],
    ),
    responses=responses(*BY_TOKEN, Invalid) | answered(JobsPage),
)
async def list_jobs(request: Request[Account, Any, Any], services: Injected[Services]) -> dict[str, Any]:
    """A page of the caller's jobs; `nextCursor` is null after the last."""
    asked = Query.of(request, "kind", "status", "cursor", "limit")
    kind, status, before = asked.choice("kind", Kind), asked.choice("status", Status), asked.uuid("cursor")
    limit = asked.whole("limit", least=1, most=MAX_JOBS, default=DEFAULT_JOBS)
    async with services.pool.connection() as connection:
        found = await ledger.page_of_jobs(
            connection, request.user.id, kind=kind, status=status, before=before, limit=limit + 1
        )
    page = found[:limit]
    return {
        "jobs": [view(job, services.settings) for job in page],
        "nextCursor": str(page[-1].id) if len(found) > limit else None,
    }


@get(
    "/jobs/{job_id:str}/events",
    summary="A job's progress, as it happens",
    media_type="text/event-stream",
    responses=responses(*BY_TOKEN, JobNotFound, Invalid) | also({204: ("The last event was seen already.", None)}),
)
async def job_events(
    request: Request[Account, Any, Any], job_id: FromPath[str], services: Injected[Services]
) -> ServerSentEvent | Response[None]:
    """`progress` at most four times a second, then one `finished`; 204 if the caller has seen that one already. The
    stream ends within seconds if the caller's account is deactivated or its credential ends."""
    job = await find_job(services, request.user.id, job_id)
    last_seen = last_event_id(request)
    if job.finished and last_seen == _version(job):
        return Response(None, status_code=204)
    return event_stream(_live(services, request.auth, job.id, last_seen))


async def find_job(services: Services, owner_id: int, job_id: str, kind: Kind | None = None) -> Job:
    """The caller's job.

    Raises:
        JobNotFound: there is no such job of this kind, or it is somebody else's.
    """
    not_found = JobNotFound(f"{kind or ''} job not found".strip(), field="job")
    try:
        number = UUID(job_id)
    except ValueError as error:
        raise not_found from error
    async with services.pool.connection() as connection:
        job = await ledger.get(connection, number)
    if job is None or job.owner_id != owner_id or kind not in (None, job.kind):
        raise not_found
    return job


def view(job: Job, settings: Settings) -> dict[str, Any]:
    """A job as its own routes show it, and of which kind it is."""
    shown = import_job(job, settings) if job.kind is Kind.IMPORT else export_job(job, settings)
    return {"kind": job.kind, **shown}


async def _may_read_on(services: Services, credential: str) -> bool:
    """Whether who opened a stream could open it again."""
    try:
        account = await services.accounts.authenticate(credential)
    except Unauthenticated:
        return False
    return account.role in services.settings.transfer_roles


async def _live(
    services: Services, credential: str, job_id: UUID, last_seen: int | None
) -> AsyncIterator[ServerSentEventMessage]:
    async def look() -> Job | None:
        async with services.pool.connection() as connection:
            return await ledger.get(connection, job_id)

    watched = watch_job(
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
        if job is None:  # retention took it
            return
        version = _version(job)
        if job.finished:
            yield sse_event("finished", version, view(job, services.settings))
            return
        if version != last_seen:
            last_seen = version
            yield sse_event("progress", version, view(job, services.settings))


def _version(job: Job) -> int:
    """Grows with every change of the job: microseconds since 1970."""
    return round(job.updated_at.timestamp() * 1_000_000)
