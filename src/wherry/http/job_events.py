"""The live progress of a job, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from litestar import Response, get
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from wherry.accounts.models import Account
from wherry.accounts.readers import Reader
from wherry.errors import Invalid, JobNotFound
from wherry.http.described import Described
from wherry.http.job_list import ListedExport, ListedImport, listed
from wherry.http.job_routes import may_steer, owns
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.http.streams import event_stream, keep_alive, last_event_id, sse_event
from wherry.jobs.feed import Watched
from wherry.jobs.models import Job
from wherry.jobs.notifications import KEEP_ALIVE_SECONDS
from wherry.jobs.view import AnyJob, any_job, for_operator
from wherry.settings import Settings
from wherry.waiting import is_set_within

PROGRESS_SECONDS = 0.25
"""At most four progress events a second; but the last event is sent at once."""


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
    return event_stream(_live(services, request, job, last_seen))


async def _live(
    services: Services, request: AccountRequest, job: Job, last_seen: int | None
) -> AsyncIterator[ServerSentEventMessage]:
    clock, wake, due = asyncio.get_running_loop().time, asyncio.Event(), 0.0
    with (
        services.feed.watching(job, wake) as watched,
        services.readers.reading(request.user, request.auth, wake) as reader,
    ):
        while (seen := _seen(reader, watched, services.settings)) is not None:
            account, job = seen
            version, patience = _version(job), KEEP_ALIVE_SECONDS
            if job.finished:
                yield sse_event("finished", version, _shown(account, job, services.settings))
                return
            if version != last_seen:
                patience = due - clock()
            if patience <= 0:
                last_seen, due = version, clock() + PROGRESS_SECONDS
                yield sse_event("progress", version, _shown(account, job, services.settings))
            elif await is_set_within(wake, patience):
                wake.clear()
            elif version == last_seen:
                yield keep_alive()


def _seen(reader: Reader, watched: Watched, settings: Settings) -> tuple[Account, Job] | None:
    """The reader and the job; None if retention has removed the job, or the reader may no longer see it."""
    account, job = reader.account, watched.job
    if account is None or job is None or account.role not in settings.transfer_roles:
        return None
    return (account, job) if may_steer(account, job) else None


def _shown(account: Account, job: Job, settings: Settings) -> ListedImport | ListedExport | AnyJob:
    return listed(job, settings) if owns(account, job) else for_operator(any_job(job))


def _version(job: Job) -> int:
    """Differs after every change of an unfinished job, and grows from round to round: microseconds since 1970.

    An ended job has one version, although its artifact expires later.
    """
    return round((job.completed_at or job.updated_at).timestamp() * 1_000_000)
