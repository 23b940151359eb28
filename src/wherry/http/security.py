"""Guards: authenticate and authorize a request before its body is read.

The `Authorization` header may use the scheme `Bearer` (RFC 6750) or `Token`. The account becomes `request.user`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityScheme

from wherry.accounts.api_tokens import is_api_token
from wherry.accounts.capsule_key import require_key
from wherry.accounts.models import Account, Visitor
from wherry.errors import Forbidden, KeyNotConfigured, LimitReached, RequestError, Unauthenticated
from wherry.http.hosts import OwnAddress
from wherry.http.services import services_of
from wherry.jobs.models import parse_job_id
from wherry.tables.builtin.users import ADMIN

Connection = ASGIConnection[Any, Any, Any, Any]
AccountRequest: TypeAlias = Request[Account, str, Any]
"""A request after `require_account`, with its account and its token."""

JOB = "wherry_job"
"""Where the state of a request has the job of its path, or None. Everybody's jobs are found, so check the owner."""

USER_SCHEMES = ("bearer", "token")
CAPSULE_SCHEMES = ("bearer",)
BLANKS = " \t"

BY_TOKEN: tuple[type[RequestError], ...] = (Unauthenticated, Forbidden)
"""Errors of routes that require a token."""

BY_KEY: tuple[type[RequestError], ...] = (Unauthenticated, LimitReached, KeyNotConfigured)
"""Errors of routes that require the capsule key."""


async def require_account(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard that calls `authenticate`."""
    await authenticate(connection)


async def authenticate(connection: Connection) -> None:
    """Require the token of an active account. If the path has a `job_id`, the job is read as well."""
    token = credential(connection, USER_SCHEMES)
    job_id = parse_job_id(connection.path_params.get("job_id", ""))
    account, job = await services_of(connection).accounts.authenticate(token, job_id)
    connection.scope["user"] = account
    connection.scope["auth"] = token
    connection.scope["state"][JOB] = job


async def require_login(connection: Connection, _: BaseRouteHandler) -> None:
    """After `require_account`: refuse API tokens."""
    if is_api_token(connection.auth):
        raise Forbidden("an API token may not do this: log in with e-mail and password (POST /api/users/login)")


async def require_open_registration(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuse registrations if the operator has closed them."""
    if services_of(connection).settings.registration == "closed":
        raise Forbidden("registration is closed (REGISTRATION=closed): an operator can run `wherry users create`")


async def authorize_transfer(request: Connection) -> None:
    """Require an account with a role that may import and export: a `before_request` hook.

    It is no guard, because litestar copies the handler for each guard, which takes longer than the rest. It is not
    called if a handler, or a router in between, has another hook; that one must call it.
    """
    await authenticate(request)
    if request.user.role not in services_of(request).settings.transfer_roles:
        raise Forbidden("your role may not import or export")


async def authorize_operator(request: Connection) -> None:
    """The same, and require an operator."""
    await authorize_transfer(request)
    if not request.user.operator:
        raise Forbidden("only operators may do this: `wherry users operator` makes an account one")


async def require_admin(connection: Connection, _: BaseRouteHandler) -> None:
    """After `require_account`: require an administrator."""
    if connection.user.role != ADMIN:
        raise Forbidden("only administrators may do this")


async def require_capsule_key(connection: Connection, _: BaseRouteHandler) -> None:
    """Require the static key of the capsule routes.

    Raises:
        KeyNotConfigured: no key is configured; there is no fallback.
        Unauthenticated: there is no key, or it is wrong.
        LimitReached: too many wrong keys from this address.
    """
    services = services_of(connection)
    expected = services.capsule_api_key
    if expected is None:
        raise KeyNotConfigured("no API key is configured on this server")
    given = credential(connection, CAPSULE_SCHEMES)
    # headers are decoded as Latin-1, one character per byte
    await require_key(services.pool, expected, given.encode("latin-1"), address_of(connection))


def credential(connection: Connection, schemes: tuple[str, ...]) -> str:
    """The credential in the `Authorization` header.

    Raises:
        Unauthenticated: there is none with one of these schemes.
    """
    # Only blanks are stripped (RFC 9110, section 5.6.3): other white space may be a byte of a character of the key.
    scheme, _, value = connection.headers.get("Authorization", "").strip(BLANKS).partition(" ")
    found = value.strip(BLANKS)
    if scheme.lower() not in schemes or not found:
        raise Unauthenticated("a token is required: Authorization: Bearer …", fields={"token": ["is missing"]})
    return found


def address_of(connection: Connection) -> str:
    """The client's address."""
    return connection.client.host if connection.client else "unknown"


def visitor_of(connection: Connection) -> Visitor:
    """Where a request comes from: its address and, if it is from a page of another origin, that origin."""
    address = address_of(connection)
    origin, host = connection.headers.get("Origin"), connection.headers.get("Host", "")
    settings = services_of(connection).settings
    if origin is None or OwnAddress(settings.public_url, settings.listens_on).certainly_has_page(origin, host):
        return Visitor(address)
    return Visitor(address, foreign_origin=origin)


SECURITY_SCHEMES = {
    "token": SecurityScheme(type="http", scheme="bearer", description="A user's JWT, or an API token."),
    "key": SecurityScheme(type="http", scheme="bearer", description="The static key of the capsule routes."),
}
"""The ways to authenticate, for the OpenAPI document."""
