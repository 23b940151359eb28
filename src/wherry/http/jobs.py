"""Routes for jobs of any kind: see a job and what happened to it, cancel it, retry it.

Operators may do all of that with everybody's jobs; but they see no names of files, no URLs and no values of records.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from litestar import Response, Router, delete, get, post
from msgspec import UNSET, Meta, Struct, UnsetType

from wherry.accounts.models import Account
from wherry.accounts.quota import admission, admit
from wherry.errors import ConcurrentLimit, JobFinished, JobNotFound, JobNotRetryable, LimitReached
from wherry.http.deliveries import list_deliveries
from wherry.http.described import CANCELLING, LIMITS, Described
from wherry.http.job_events import watch_job
from wherry.http.job_list import list_jobs
from wherry.http.job_routes import cancel_job, cancelled, may_steer, provide_job, shown_to
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.jobs import history, queue
from wherry.jobs.history import HistoryEvent
from wherry.jobs.models import Job, retryable
from wherry.jobs.states import Kind, Status
from wherry.jobs.view import AnyJob, any_job
from wherry.times import Time, rfc3339

Count: TypeAlias = int | UnsetType
Text: TypeAlias = str | UnsetType


class JobAnswer(Struct):
    """A job."""

    job: AnyJob


class TimelineEvent(Struct, rename="camel", kw_only=True):
    """Something that happened to a job. Which members it has depends on its type."""

    type: str
    ts: Time
    round: Annotated[int, Meta(description="One more than the number of retries until then.")]
    epoch: Annotated[int, Meta(description="How many times a worker had taken the job.")]
    worker: Annotated[Text, Meta(description="`claimed`, `died`: the worker, as host and process id.")] = UNSET
    deaths: Annotated[Count, Meta(description="`died`: how many workers have died in a row at this checkpoint.")] = (
        UNSET
    )
    processed: Annotated[Count, Meta(description="`checkpoint`: how many records were processed.")] = UNSET
    errors: Annotated[Count, Meta(description="`checkpoint`: how many records were refused.")] = UNSET
    progress: Annotated[float | UnsetType, Meta(description="`checkpoint`: a percentage.")] = UNSET
    reason: Annotated[Text, Meta(description="`rescued`, `released`: why.")] = UNSET
    by: Annotated[
        int | UnsetType,
        Meta(description="`cancel_requested`, `retried`, `ended` by a cancel: the user who requested it."),
    ] = UNSET
    status: Annotated[
        str | int | UnsetType,
        Meta(description="`ended`: the job's status. `webhook`: the status of the response."),
    ] = UNSET
    code: Annotated[Text, Meta(description="`ended`: the code of the job's error.")] = UNSET
    id: Annotated[Text, Meta(description="`webhook`: the id of the event.")] = UNSET
    attempt: Annotated[Count, Meta(description="`webhook`: the number of the attempt.")] = UNSET
    error: Annotated[Text, Meta(description="`webhook`: why the attempt failed.")] = UNSET


class Timeline(Struct):
    """What happened to a job, oldest first."""

    events: list[TimelineEvent]


@get(
    "/jobs/{job_id:str}",
    response_description="The current state of the job.",
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def get_job(request: AccountRequest, job: Injected[Job]) -> JobAnswer:
    """A job of any kind."""
    return _answer(request.user, job)


@get(
    "/jobs/{job_id:str}/timeline",
    response_description="The events of the job.",
    responses=responses(*BY_TOKEN, JobNotFound),
)
async def get_job_timeline(job: Injected[Job], services: Injected[Services]) -> Timeline:
    """What happened to a job."""
    async with services.pool.connection() as connection:
        return Timeline([_event(each) for each in await history.timeline(connection, job)])


@delete(
    "/jobs/{job_id:str}",
    status_code=200,
    described=Described(same=CANCELLING),
    response_description="The job is cancelled.",
    responses=responses(*BY_TOKEN, JobNotFound, JobFinished),
)
async def cancel_any_job(
    request: AccountRequest, job: Injected[Job], services: Injected[Services]
) -> Response[JobAnswer]:
    """Cancel a job of any kind. If it is running, it stops at its next checkpoint."""
    job = await cancel_job(services, job, request.user.id)
    return cancelled(job, _answer(request.user, job))


@post(
    "/jobs/{job_id:str}/retry",
    status_code=202,
    described=Described(fields={202: LIMITS}),
    response_description="The job is queued again.",
    responses=responses(*BY_TOKEN, JobNotFound, JobNotRetryable, LimitReached, ConcurrentLimit),
)
async def retry_job(request: AccountRequest, job: Injected[Job], services: Injected[Services]) -> Response[JobAnswer]:
    """Retry a job that was cancelled or failed for a reason that may pass. It continues from its checkpoint.

    To the limits of its owner, it counts as a new job.
    """
    if job.owner_id is None:
        raise JobNotRetryable(_why_not(job))
    async with admission(services.pool, job.kind, job.owner_id) as connection:
        retried = await queue.retry(connection, job, request.user.id)
        if retried is None:
            raise JobNotRetryable(_why_not(job))
        headers = await admit(connection, job.kind, job.owner_id, services.settings)
    return Response(_answer(request.user, retried), headers=headers)


def _answer(reader: Account, job: Job) -> JobAnswer:
    return JobAnswer(shown_to(reader, job, any_job(job)))


def _event(event: HistoryEvent) -> TimelineEvent:
    members = {"type": event.type, "ts": rfc3339(event.ts), "round": event.round, "epoch": event.epoch}
    return msgspec.convert({**(event.meta or {}), **members}, TimelineEvent)


def _why_not(job: Job) -> str:
    """Why a job cannot be retried, and what to do instead."""
    if job.kind is Kind.CAPSULE:
        return "capsules cannot be retried: send the graph again"
    if not job.finished:
        return f"the job is {job.status}: wait until it has ended, or cancel it first"
    if job.status is Status.SUCCEEDED:
        return "the job has succeeded: create a new one"
    if job.status is Status.PARTIAL:
        return (
            "another run would refuse the same records: correct them "
            f"(GET /api/v1/imports/{job.id}/rejects/download) and import that file"
        )
    if "removedAt" in (job.source or {}):
        return "its source is no longer stored, or its idempotency key was used again: send it as a new import"
    if retryable(job):
        return "the job was changed in the meantime: look at it again"
    code = "" if job.error is None else f" with {job.error['code']}"
    return f"the job has failed{code}, and would again: correct the cause and create a new job"


job_router = Router(
    "/",
    route_handlers=[list_jobs, get_job, get_job_timeline, watch_job, list_deliveries, cancel_any_job, retry_job],
    dependencies=provide_job(None, may_steer),
    tags=["jobs"],
)
