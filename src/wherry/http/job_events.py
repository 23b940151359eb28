"""The live progress of a job, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from litestar import Response, get
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from wherry.accounts.models import Account
from wherry.errors import Invalid, JobNotFound, Unauthenticated
from wherry.http.described import Described
from wherry.http.job_list import ListedExport, ListedImport, listed
from wherry.http.job_routes import owns
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.http.streams import event_stream, keep_alive, last_event_id, sse_event
from wherry.jobs import ledger, notifications
from wherry.jobs.models import Job
from wherry.jobs.notifications import IDLE, KEEP_ALIVE_SECONDS
from wherry.jobs.view import AnyJob, any_job, for_operator
from wherry.settings import Settings

PROGRESS_SECONDS = 0.25
"""At most four progress events a second."""

AUTHORITY_SECONDS = 5.0
"""How often an idle stream checks whether its reader may still read it."""


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
    return event_stream(_live(services, request, job.id, last_seen))


async def _may_read_on(services: Services, credential: str) -> bool:
    """Whether the reader of a stream would still be allowed to open it."""
    try:
        account, _ = await services.accounts.authenticate(credential)
    except Unauthenticated:
        return False
    return account.role in services.settings.transfer_roles


async def _live(
    services: Services, request: AccountRequest, job_id: UUID, last_seen: int | None
) -> AsyncIterator[ServerSentEventMessage]:
    async def look() -> Job | None:
        async with services.pool.connection() as connection:
            return await ledger.get(connection, job_id)

    watched = notifications.watch_job(
        services.notifications, job_id, look, at_most_every=PROGRESS_SECONDS, idle_every=AUTHORITY_SECONDS
    )
    silent = 0.0
    async for job in watched:
        if not await _may_read_on(services, request.auth):
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
            yield sse_event("finished", version, _shown(request.user, job, services.settings))
            return
        if version != last_seen:
            last_seen = version
            yield sse_event("progress", version, _shown(request.user, job, services.settings))


def _shown(reader: Account, job: Job, settings: Settings) -> ListedImport | ListedExport | AnyJob:
    return listed(job, settings) if owns(reader, job) else for_operator(any_job(job))


def _version(job: Job) -> int:
    """Grows with every change of the job: microseconds since 1970."""
    return round(job.updated_at.timestamp() * 1_000_000)
