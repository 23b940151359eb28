"""Helpers for the job routes of every kind: finding a job, and responding with a new or a cancelled job."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from litestar import Request, Response
from litestar.di import Provide
from litestar.params import PathParameter

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
from wherry.http.security import BY_TOKEN, JOB
from wherry.http.services import Injected, Services
from wherry.jobs import ledger
from wherry.jobs.models import Job, parse_job_id
from wherry.jobs.states import Kind, Status

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


async def find_job(services: Services, job_id: str, *, owner_id: int | None, kind: Kind | None) -> Job:
    """Find the owner's job by the id in a path. Capsule jobs have no owner.

    Raises:
        JobNotFound: there is no such job of this kind, or it belongs to somebody else.
    """
    number, job = parse_job_id(job_id), None
    if number is not None:
        async with services.pool.connection() as connection:
            job = await ledger.get(connection, number)
    return _require_own(job, owner_id, kind)


def provide_job(kind: Kind | None = None) -> dict[str, Provide]:
    """The `dependencies` of handlers that take `job: Injected[Job]`.

    It is found before the handler runs, so handlers that refuse invalid queries first call `find_job` themselves.
    """

    async def find(request: Request[Any, Any, Any], job_id: JobId, services: Injected[Services]) -> Job:
        if kind is Kind.CAPSULE:
            return await find_job(services, job_id, owner_id=None, kind=kind)
        return _require_own(request.scope["state"][JOB], request.user.id, kind)  # read by `require_account`

    return {"job": Provide(find)}


def _require_own(job: Job | None, owner_id: int | None, kind: Kind | None) -> Job:
    if job is None or job.owner_id != owner_id or kind not in (None, job.kind):
        raise JobNotFound(f"{kind or ''} job not found".strip(), field="job")
    return job


def accepted(path: str, answer: Answer, *, replayed: bool, fields: Mapping[str, str] | None = None) -> Response[Answer]:
    """202 with the URL of the new job, or 200 if an earlier identical request created the job."""
    headers = {**(fields or {}), "Location": path, **({"Idempotent-Replayed": "true"} if replayed else {})}
    return Response(answer, status_code=200 if replayed else 202, headers=headers)


def cancelled(job: Job, answer: Answer, *, ended: Container[Status]) -> Response[Answer]:
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
