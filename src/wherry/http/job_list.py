"""The list of jobs: the caller's own, or, for operators, everybody's."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from uuid import UUID

from litestar import get
from msgspec import Meta, Struct
from msgspec.structs import asdict

from wherry.accounts.models import Account
from wherry.errors import Forbidden, Invalid
from wherry.exports.view import ExportJob, export_job
from wherry.http.described import JSON, Described
from wherry.http.job_routes import shown_to
from wherry.http.parameters import read_query
from wherry.http.problems import responses
from wherry.http.security import BY_TOKEN, AccountRequest
from wherry.http.services import Injected, Services
from wherry.imports.view import ImportJob, import_job
from wherry.jobs import ledger
from wherry.jobs.models import Job
from wherry.jobs.states import Kind, Status
from wherry.jobs.view import AnyJob, any_job
from wherry.settings import Settings
from wherry.tables.builtin.rules import MAX_ID
from wherry.texts import whole_number

MAX_JOBS = 200
DEFAULT_JOBS = 50
EVERYBODY = "all"


class ListedImport(ImportJob, kw_only=True, tag_field="kind", tag="import"):
    """An import in a list of jobs."""


class ListedExport(ExportJob, kw_only=True, tag_field="kind", tag="export"):
    """An export in a list of jobs."""


NextCursor: TypeAlias = Annotated[
    UUID | None, Meta(description="The `cursor` of the next page; null on the last page.")
]


class JobsPage(Struct, rename="camel"):
    """Your jobs, newest first."""

    jobs: list[ListedImport | ListedExport]
    next_cursor: NextCursor


class OwnersPage(Struct, rename="camel"):
    """The jobs of the requested owner, or of everybody, newest first."""

    jobs: list[AnyJob]
    next_cursor: NextCursor


class JobsQuery(Struct):
    """Which jobs to list."""

    kind: Annotated[Kind | None, Meta(description="Jobs of this kind only.")] = None
    status: Annotated[Status | None, Meta(description="Jobs in this state only.")] = None
    resource: Annotated[str | None, Meta(description="Jobs of this resource only.")] = None
    owner: Annotated[
        str | None,
        Meta(
            description="The id of a user, or `all`, which includes capsules. Only operators may list the jobs of "
            "others. The jobs have the shape that they have at `/api/v1/jobs/{id}`."
        ),
    ] = None
    cursor: Annotated[UUID | None, Meta(description="The `nextCursor` of the previous page.")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_JOBS, description="Maximum number of jobs.")] = DEFAULT_JOBS


@get(
    "/jobs",
    described=Described(query=JobsQuery, answers={200: {JSON: (JobsPage, OwnersPage)}}),
    response_description="A page of jobs.",
    responses=responses(*BY_TOKEN, Invalid),
)
async def list_jobs(request: AccountRequest, services: Injected[Services]) -> JobsPage | OwnersPage:
    """Your jobs, or, if `owner` is given, those of that user, newest first."""
    asked = read_query(request, JobsQuery)
    owner_id = _owner(asked.owner, request.user)
    async with services.pool.connection() as connection:
        found = await ledger.page_of_jobs(
            connection,
            owner_id,
            kind=asked.kind,
            status=asked.status,
            resource=_resource(asked.resource),
            before=asked.cursor,
            limit=asked.limit + 1,
        )
    page = found[: asked.limit]
    next_cursor = page[-1].id if len(found) > asked.limit else None
    if asked.owner is None:
        return JobsPage([listed(job, services.settings) for job in page], next_cursor)
    return OwnersPage([shown_to(request.user, job, any_job(job)) for job in page], next_cursor)


def _owner(asked: str | None, caller: Account) -> int | None:
    """The owner of the jobs to list; None for everybody.

    Raises:
        Invalid: it is neither `all` nor a number.
        Forbidden: only operators may list these jobs.
    """
    if asked is None:
        return caller.id
    owner_id = whole_number(asked)
    if asked != EVERYBODY and (owner_id is None or owner_id > MAX_ID):
        raise Invalid(f"owner must be the id of a user, or {EVERYBODY}", field="owner")
    if owner_id != caller.id and not caller.operator:
        raise Forbidden("only operators may list the jobs of other users")
    return owner_id


def _resource(asked: str | None) -> str | None:
    """The name of the resource, which need not be declared any more: jobs outlive declarations.

    Raises:
        Invalid: no resource can have this name.
    """
    name = None if asked is None else asked.strip().lower()
    if name is not None and "\0" in name:  # which PostgreSQL refuses in any text
        raise Invalid("resource must be the name of a resource", field="resource")
    return name


def listed(job: Job, settings: Settings) -> ListedImport | ListedExport:
    """A job as its own routes show it, with its kind."""
    if job.kind is Kind.IMPORT:
        return ListedImport(**asdict(import_job(job)))
    return ListedExport(**asdict(export_job(job, settings)))
