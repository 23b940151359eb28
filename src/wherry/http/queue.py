"""Routes for operators: see the queue and the workers, pause and resume kinds of jobs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Router, get, post
from litestar.params import PathParameter

from wherry.database.pools import brief_transaction
from wherry.errors import NotFound
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest, authorize_operator
from wherry.http.services import Injected, Services
from wherry.jobs import steering
from wherry.jobs.states import Kind
from wherry.jobs.steering import QueueOverview

KindName: TypeAlias = Annotated[str, PathParameter(description="A kind of jobs.", schema_extra={"enum": [*Kind]})]


@get("/", response_description="The queue.", responses=responses(*BY_TOKEN))
async def get_queue(services: Injected[Services]) -> QueueOverview:
    """What is waiting and running, and the workers."""
    async with services.pool.connection() as connection:
        return await steering.overview(connection)


@post("/{kind:str}/pause", status_code=200, response_description="The queue.", responses=responses(*BY_TOKEN, NotFound))
async def pause_queue(request: AccountRequest, kind: KindName, services: Injected[Services]) -> QueueOverview:
    """Pause the jobs of a kind: new ones are accepted and wait. Those that are running continue."""
    paused = _kind(kind)
    async with brief_transaction(services.pool) as connection:
        await steering.pause(connection, paused, request.user.id)
        return await steering.overview(connection)


@post(
    "/{kind:str}/resume", status_code=200, response_description="The queue.", responses=responses(*BY_TOKEN, NotFound)
)
async def resume_queue(kind: KindName, services: Injected[Services]) -> QueueOverview:
    """Let the jobs of a kind start again."""
    resumed = _kind(kind)
    async with brief_transaction(services.pool) as connection:
        await steering.resume(connection, resumed)
        return await steering.overview(connection)


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError:
        raise NotFound(f"no such kind of jobs; those are {', '.join(Kind)}") from None


queue_router = Router(
    "/queue",
    route_handlers=[get_queue, pause_queue, resume_queue],
    before_request=authorize_operator,
    tags=["operators"],
)
