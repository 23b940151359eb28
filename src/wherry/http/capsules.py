"""The routes of capsules, under `/v1`: GitNexus clients send a code graph and download a `.mv2` capsule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from litestar import HttpMethod, Response, Router, delete, get, post, route
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from msgspec import Meta, Struct

from wherry.capsules import view
from wherry.capsules.graph import Graph
from wherry.capsules.view import CapsuleAccepted, CapsuleEvents, CapsuleJob
from wherry.errors import (
    CapsuleGone,
    CapsuleNotReady,
    EmptyGraph,
    GraphTooLarge,
    Invalid,
    JobNotFound,
    KeyReused,
    PreconditionFailed,
    QueueUnavailable,
    RangeNotSatisfiable,
    UnsupportedMedia,
)
from wherry.http.described import (
    IDEMPOTENCY_KEY,
    JSON,
    OCTETS,
    REPLAYED,
    Described,
)
from wherry.http.downloads import ArtifactFile, download_response
from wherry.http.idempotency import idempotency_key
from wherry.http.job_routes import JobId, accepted, cancel_job, find_job, keep_from_caches, provide_capsule
from wherry.http.parameters import read_query
from wherry.http.problems import responses
from wherry.http.requests import JSON_CODINGS, JSONRequest, content_coding, require_json, unpacked
from wherry.http.schemas import Binary
from wherry.http.security import BY_KEY, require_capsule_key
from wherry.http.services import Injected, Services
from wherry.http.streams import event_stream, keep_alive, last_event_id, sse_event
from wherry.jobs import ledger
from wherry.jobs.events import Event, events_since
from wherry.jobs.models import Job
from wherry.jobs.notifications import IDLE, watch_job
from wherry.jobs.states import Kind, Status

MAX_EVENTS = 2000
DEFAULT_EVENTS = 200


class Since(Struct, rename="camel"):
    """Where to start in the log."""

    since_seq: Annotated[int, Meta(ge=0, description="The `seq` of the last event that the client already has.")] = 0


class EventsQuery(Since, rename="camel"):
    """Which events to list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS, description="Maximum number of events.")] = DEFAULT_EVENTS


@post(
    "/",
    status_code=202,
    request_max_body_size=None,
    described=Described(
        headers=[IDEMPOTENCY_KEY],
        body={JSON: Graph},
        same=REPLAYED,
        fields={202: ("Location",), 200: ("Location", "Idempotent-Replayed")},
    ),
    response_description="The job is queued.",
    responses=responses(*BY_KEY, EmptyGraph, GraphTooLarge, UnsupportedMedia, Invalid, KeyReused, QueueUnavailable),
)
async def create_capsule(request: JSONRequest, services: Injected[Services]) -> Response[CapsuleAccepted]:
    """Turn a code graph into a capsule. Stores the graph and queues a job."""
    require_json(request)
    coding = content_coding(request, *JSON_CODINGS)
    job, replayed = await services.submissions.hand_in(
        unpacked(request.stream(), coding),
        declared_bytes=request.content_length if coding is None else None,
        idempotency_key=idempotency_key(request, required=False),
    )
    return accepted(f"/v1/exports/{job.id}", view.accepted(job), replayed=replayed)


@get(
    "/{job_id:str}",
    response_description="The current state of the job.",
    responses=responses(*BY_KEY, JobNotFound),
)
async def get_capsule(job: Injected[Job]) -> CapsuleJob:
    """A capsule job."""
    return view.capsule_job(job)


@get(
    "/{job_id:str}/events",
    described=Described(query=EventsQuery),
    response_description="Events and the job.",
    responses=responses(*BY_KEY, JobNotFound, Invalid),
)
async def list_capsule_events(request: JSONRequest, job_id: JobId, services: Injected[Services]) -> CapsuleEvents:
    """A capsule job's log. Lists the events after `sinceSeq`, oldest first."""
    asked = read_query(request, EventsQuery)
    job = await find_job(services, job_id, owner_id=None, kind=Kind.CAPSULE)
    async with services.pool.connection() as connection:
        entries = await events_since(connection, job.id, asked.since_seq, asked.limit)
    return CapsuleEvents(
        job_id=job.id,
        events=[view.event(entry) for entry in entries],
        next_seq=(entries[-1].seq if entries else asked.since_seq) + 1,
        status_snapshot=view.capsule_job(job),
    )


@get(
    "/{job_id:str}/events/stream",
    media_type="text/event-stream",
    described=Described(query=Since),
    response_description="Server-sent events.",
    responses=responses(*BY_KEY, JobNotFound, Invalid),
)
async def watch_capsule(request: JSONRequest, job_id: JobId, services: Injected[Services]) -> ServerSentEvent:
    """A capsule job's log, live. Sends the events after `sinceSeq` or `Last-Event-ID`, until the job ends."""
    since = max(read_query(request, Since).since_seq, last_event_id(request) or 0)
    job = await find_job(services, job_id, owner_id=None, kind=Kind.CAPSULE)
    return event_stream(_live(services, job.id, since))


@route(
    "/{job_id:str}/download",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    media_type=OCTETS,
    described=Described.file({OCTETS: Binary}),
    response_description="The file.",
    responses=responses(*BY_KEY, JobNotFound, CapsuleNotReady, CapsuleGone, PreconditionFailed, RangeNotSatisfiable),
)
async def download_capsule(request: JSONRequest, job: Injected[Job], services: Injected[Services]) -> Response[Any]:
    """The capsule."""
    if view.is_expired(job):
        raise CapsuleGone("the capsule has expired")
    if job.status is not Status.SUCCEEDED or job.artifact is None:
        raise CapsuleNotReady(f"the job is {view.status(job)}: there is no capsule")
    found = ArtifactFile.of(job.artifact)
    return await download_response(request, services.capsule_store, found, services.settings, gone=CapsuleGone)


@delete(
    "/{job_id:str}",
    status_code=200,
    response_description="The current state of the job.",
    responses=responses(*BY_KEY, JobNotFound),
)
async def cancel_capsule(job: Injected[Job], services: Injected[Services]) -> CapsuleJob:
    """Cancel a capsule job. If it has ended, it stays as it is."""
    return view.capsule_job(await cancel_job(services, job))


async def _live(services: Services, job_id: UUID, since: int) -> AsyncIterator[ServerSentEventMessage]:
    async def look() -> tuple[list[Event], bool]:
        async with services.pool.connection() as connection:
            entries = page = await events_since(connection, job_id, since, MAX_EVENTS)
            while len(page) == MAX_EVENTS:
                page = await events_since(connection, job_id, page[-1].seq, MAX_EVENTS)
                entries = [*entries, *page]
            job = await ledger.get(connection, job_id)
        # A missing job has ended: retention may have removed it while it was being watched.
        return entries, job is None or (job.finished and job.last_event_seq <= max([since, *(e.seq for e in entries)]))

    async for seen in watch_job(services.notifications, job_id, look):
        if seen is IDLE:
            yield keep_alive()
            continue
        entries, ended = seen
        for entry in entries:
            since = entry.seq
            yield sse_event(entry.type, entry.seq, view.event(entry))
        if ended:
            return


capsule_router = Router(
    "/v1/exports",
    route_handlers=[create_capsule, get_capsule, list_capsule_events, watch_capsule, download_capsule, cancel_capsule],
    dependencies=provide_capsule(),
    guards=[require_capsule_key],
    after_request=keep_from_caches,
    tags=["capsules"],
    security=[{"key": []}],
)
