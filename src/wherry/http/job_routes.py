"""Helpers for the job routes of every kind: finding a job, cancelling it, and responding with it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from litestar import Response
from litestar.di import Provide
from litestar.params import PathParameter

from wherry.accounts.models import Account
from wherry.database.pools import brief_transaction
from wherry.errors import (
    ConcurrentLimit,
    JobFinished,
    JobNotFound,
    KeyReused,
    LimitReached,
    RequestError,
    UnsupportedFormat,
    UnsupportedResource,
)
from wherry.http.problems import JSON_BODY
from wherry.http.security import BY_TOKEN, JOB, AccountRequest
from wherry.http.services import Injected, Services
from wherry.jobs import ledger
from wherry.jobs.models import Job, parse_job_id
from wherry.jobs.states import FINISHED, Kind, Status
from wherry.jobs.view import Shown, for_operator

Answer = TypeVar("Answer")
JobId: TypeAlias = Annotated[str, PathParameter(description="The job's id.", schema_extra={"format": "uuid"})]

NEW_JOB: tuple[type[RequestError], ...] = (
    *BY_TOKEN,
    *JSON_BODY,
    UnsupportedResource,
    UnsupportedFormat,
    KeyReused,
    LimitReached,
    ConcurrentLimit,
)
"""The errors of a route that creates an import or an export."""


def owns(account: Account, job: Job) -> bool:
    """Whether it is the account's own job. Capsules have no owner."""
    return job.owner_id == account.id


def may_steer(account: Account, job: Job) -> bool:
    """Whether the account may see how the job is doing, and cancel or retry it: operators may do that to every job."""
    return account.operator or owns(account, job)


def shown_to(account: Account, job: Job, shown: Shown) -> Shown:
    """What an account that may steer the job sees of it."""
    return shown if owns(account, job) else for_operator(shown)


async def find_job(services: Services, job_id: str, *, owner_id: int | None, kind: Kind) -> Job:
    """Find the owner's job by the id in a path. Capsule jobs have no owner.

    Raises:
        JobNotFound: there is no such job of this kind, or it belongs to somebody else.
    """
    number, job = parse_job_id(job_id), None
    if number is not None:
        async with services.pool.connection() as connection:
            job = await ledger.get(connection, number)
    if job is None or job.owner_id != owner_id or job.kind != kind:
        raise _not_found(kind)
    return job


def provide_job(kind: Kind | None, allows: Callable[[Account, Job], bool] = owns) -> dict[str, Provide]:
    """The `dependencies` of handlers that take `job: Injected[Job]`, after `require_account`.

    It is found before the handler runs, so handlers that refuse invalid queries first call `find_job` themselves.

    Args:
        kind: of the job; None for any.
        allows: whether an account may use these routes for a job; if not, there is no such job for it.
    """

    # `job_id` is documented. `services` are resolved first: litestar starts tasks for what it can resolve at once.
    def find(request: AccountRequest, job_id: JobId, services: Injected[Services]) -> Job:
        job: Job | None = request.scope["state"][JOB]
        if job is None or kind not in (None, job.kind) or not allows(request.user, job):
            raise _not_found(kind)
        return job

    return {"job": Provide(find, sync_to_thread=False)}


def provide_capsule() -> dict[str, Provide]:
    """The same, for capsules: after `require_capsule_key`."""

    async def find(job_id: JobId, services: Injected[Services]) -> Job:
        return await find_job(services, job_id, owner_id=None, kind=Kind.CAPSULE)

    return {"job": Provide(find)}


def _not_found(kind: Kind | None) -> JobNotFound:
    return JobNotFound(f"{kind or ''} job not found".strip(), field="job")


async def cancel_job(services: Services, job: Job, by: int | None = None) -> Job:
    """Cancel an unfinished job: at once if it is queued or a capsule, else at its next checkpoint.

    Returns the job as it is then. `by` is the account that wants it, if it is known.
    """
    cancel = ledger.cancel_now if job.kind is Kind.CAPSULE else ledger.cancel
    async with brief_transaction(services.pool) as connection:
        job = await cancel(connection, job.id, by) or job
    if job.kind is Kind.CAPSULE and job.status is Status.CANCELLED and job.source is not None:
        await services.capsule_store.delete(job.source["key"])
    return job


def accepted(path: str, answer: Answer, *, replayed: bool, fields: Mapping[str, str] | None = None) -> Response[Answer]:
    """202 with the URL of the new job, or 200 if an earlier identical request created the job."""
    headers = {**(fields or {}), "Location": path, **({"Idempotent-Replayed": "true"} if replayed else {})}
    return Response(answer, status_code=200 if replayed else 202, headers=headers)


def cancelled(
    job: Job, answer: Answer, *, ended: Container[Status] = FINISHED - {Status.CANCELLED}
) -> Response[Answer]:
    """202 if the job is still running, else 200.

    Raises:
        JobFinished: the job has already ended in one of these states.
    """
    if job.status in ended:
        raise JobFinished(f"the job has ended as {job.status}")
    return Response(answer, status_code=202 if job.status is Status.RUNNING else 200)


async def keep_from_caches(response: Response[Any]) -> Response[Any]:
    """An `after_request` hook that forbids caching, as jobs change and reports contain records. Artifacts opt out."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
