"""What requests that hand a job in, or want it cancelled, are answered with, whatever its kind.

In: the job as the ledger has it, and its view. Out: the response.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from litestar import Response

from wherry.errors import (
    ConcurrentLimit,
    JobFinished,
    KeyReused,
    LimitReached,
    RequestError,
    UnsupportedFormat,
    UnsupportedResource,
)
from wherry.http.problems import JSON_BODY
from wherry.http.security import BY_TOKEN
from wherry.jobs.models import Job
from wherry.jobs.states import Status

Answer = TypeVar("Answer")
NEW_JOB: tuple[type[RequestError], ...] = (
    *BY_TOKEN,
    *JSON_BODY,
    UnsupportedResource,
    UnsupportedFormat,
    KeyReused,
    LimitReached,
    ConcurrentLimit,
)
"""What a route may raise that creates an import or an export."""

NO_FIELDS: Mapping[str, str] = MappingProxyType({})


def accepted(path: str, answer: Answer, *, replayed: bool, fields: Mapping[str, str] = NO_FIELDS) -> Response[Answer]:
    """202 with the job's address; 200 if the same request made it before."""
    headers = {**fields, "Location": path, **({"Idempotent-Replayed": "true"} if replayed else {})}
    return Response(answer, status_code=200 if replayed else 202, headers=headers)


def cancelled(job: Job, answer: Answer, *, ended: Container[Status]) -> Response[Answer]:
    """202 while the job still runs, 200 once it does not.

    Raises:
        JobFinished: the job has already ended in one of these states.
    """
    if job.status in ended:
        raise JobFinished(f"the job has ended as {job.status}")
    return Response(answer, status_code=202 if job.status is Status.RUNNING else 200)


async def keep_from_caches(response: Response[Any]) -> Response[Any]:
    """An `after_request` hook: jobs change, and reports contain records. Artifacts have their own `Cache-Control`."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
