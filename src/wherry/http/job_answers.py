"""What requests that hand a job in, or want it cancelled, are answered with, whatever its kind.

In: the job as the ledger has it, and its view. Out: the response.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

from litestar import Response

from wherry.errors import JobFinished
from wherry.jobs.models import Job
from wherry.jobs.states import Status

View = dict[str, Any]
NO_FIELDS: Mapping[str, str] = MappingProxyType({})


def accepted(path: str, view: View, *, replayed: bool, fields: Mapping[str, str] = NO_FIELDS) -> Response[View]:
    """202 with the job's address; 200 where the same request made it before."""
    headers = {**fields, "Location": path, **({"Idempotent-Replayed": "true"} if replayed else {})}
    return Response(view, status_code=200 if replayed else 202, headers=headers)


def cancelled(job: Job, view: View, *, ended: Container[Status]) -> Response[View]:
    """202 while the job still runs, 200 once it does not.

    Raises:
        JobFinished: it had come to one of these ends.
    """
    if job.status in ended:
        raise JobFinished(f"the job has ended as {job.status}")
    return Response(view, status_code=202 if job.status is Status.RUNNING else 200)


async def keep_from_caches(response: Response[Any]) -> Response[Any]:
    """An `after_request` hook: jobs change, and reports contain records. Artifacts have their own `Cache-Control`."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
