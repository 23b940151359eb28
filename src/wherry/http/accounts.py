"""The routes of accounts: registration, login, the caller's own account, and links for setting a password."""

from __future__ import annotations

from typing import Annotated

import structlog
from litestar import Response, Router, get, post, put
from litestar.background_tasks import BackgroundTask
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter
from msgspec import UNSET, Meta, Struct, UnsetType
from psycopg import OperationalError

from wherry.accounts import limits
from wherry.accounts.links import PasswordLinks
from wherry.accounts.models import NOT_BLANK, NOT_NULL, Changes, Registration, ResetRequest, Session
from wherry.accounts.validation import MIN_PASSWORD_CHARACTERS
from wherry.errors import (
    Busy,
    Forbidden,
    InvalidCredentials,
    LimitReached,
    LinkExpired,
    PasswordAlreadySet,
    PasswordNotSet,
    Unauthenticated,
    Unavailable,
    UserNotFound,
)
from wherry.http.api_tokens import create_api_token, list_api_tokens, revoke_api_token
from wherry.http.described import LIMITS, Described
from wherry.http.job_routes import keep_from_caches
from wherry.http.password_page import password_page
from wherry.http.problems import JSON_BODY, responses
from wherry.http.requests import JSONRequest
from wherry.http.security import (
    BY_TOKEN,
    AccountRequest,
    require_account,
    require_admin,
    require_login,
    require_open_registration,
    visitor_of,
)
from wherry.http.services import Injected, Services
from wherry.times import Time, rfc3339

MAX_BODY_BYTES = 64 << 10
SECURITY: list[dict[str, list[str]]] = [{"token": []}]
logger = structlog.get_logger(__name__)

# Required strings of bodies are declared as optional, so that an absent or null one is reported as blank.
NEW_PASSWORD = Meta(extra_json_schema={"minLength": MIN_PASSWORD_CHARACTERS, NOT_NULL: True})


class RegistrationBody(Struct):
    """The account to create."""

    user: Registration


class LoginFields(Struct):
    """The credentials of an account."""

    email: Annotated[str | None, NOT_BLANK] = None
    password: Annotated[str | None, NOT_BLANK] = None


class LoginBody(Struct):
    """The account to log in to."""

    user: LoginFields


class ChangedFields(Struct):
    """The fields to change; absent fields stay as they are."""

    username: Annotated[str | UnsetType | None, NOT_BLANK] = UNSET
    email: Annotated[str | UnsetType | None, NOT_BLANK] = UNSET
    password: Annotated[str | None, Meta(description="Null or empty leaves the password as it is.")] = None
    bio: Annotated[str | UnsetType | None, Meta(description="Null or empty removes it.")] = UNSET
    image: Annotated[str | UnsetType | None, Meta(description="A URL; null or empty removes it.")] = UNSET


class ChangesBody(Struct):
    """The changes to the caller's account."""

    user: ChangedFields


class ResetBody(Struct):
    """The account that needs a new password."""

    email: Annotated[str | None, NOT_BLANK] = None


class NewPasswordBody(Struct):
    """The token of a password link, and the password to set."""

    token: Annotated[str | None, NOT_BLANK] = None
    password: Annotated[str | None, NEW_PASSWORD] = None


class UserFields(Struct):
    """An account and a token for it."""

    id: int
    email: str
    username: str
    bio: str | None
    image: str | None
    token: Annotated[str, Meta(description="Sent as `Authorization: Bearer …`.")]


class UserAnswer(Struct):
    """An account."""

    user: UserFields


class LinkAnswer(Struct, rename="camel"):
    """A one-time link for setting a password."""

    url: str
    expires_at: Time


@post(
    "/api/users",
    guards=[require_open_registration],
    described=Described(fields={201: LIMITS}),
    response_description="The new account.",
    responses=responses(Forbidden, *JSON_BODY, LimitReached, Busy),
)
async def register(
    request: JSONRequest, data: JSONBody[RegistrationBody], services: Injected[Services]
) -> Response[UserAnswer]:
    """Register. The first account of an empty system becomes admin and operator."""
    return _session(await services.accounts.register(data.user, visitor_of(request)))


@post(
    "/api/users/login",
    status_code=200,
    described=Described(fields={200: LIMITS}),
    response_description="The account, with a token.",
    responses=responses(InvalidCredentials, PasswordNotSet, *JSON_BODY, LimitReached, Busy),
)
async def log_in(request: JSONRequest, data: JSONBody[LoginBody], services: Injected[Services]) -> Response[UserAnswer]:
    """Log in. Exchanges e-mail and password for a token."""
    return _session(await services.logins.login(data.user.email, data.user.password, visitor_of(request).address))


@get(
    "/api/user",
    guards=[require_account],
    security=SECURITY,
    response_description="The account.",
    responses=responses(Unauthenticated),
)
async def get_current_user(request: AccountRequest) -> Response[UserAnswer]:
    """The caller's account."""
    return _session(Session(request.user, request.auth))


@put(
    "/api/user",
    guards=[require_account, require_login],
    security=SECURITY,
    described=Described(fields={200: LIMITS}),
    response_description="The updated account.",
    responses=responses(*BY_TOKEN, *JSON_BODY, LimitReached, Busy),
)
async def update_current_user(
    request: AccountRequest,
    data: JSONBody[ChangesBody],
    services: Injected[Services],
) -> Response[UserAnswer]:
    """Change the caller's account. API tokens are refused."""
    changes, address = _changes(data.user), visitor_of(request).address
    return _session(await services.accounts.update(request.user, request.auth, changes, address))


@post(
    "/api/users/password/reset",
    status_code=202,
    described=Described(fields={202: LIMITS}),
    response_description="The request is accepted.",
    responses=responses(*JSON_BODY, LimitReached),
)
async def request_password_reset(
    request: JSONRequest, data: JSONBody[ResetBody], services: Injected[Services]
) -> Response[None]:
    """Request a link for setting a password. The response does not reveal whether the address is known."""
    asked = await services.password_links.request_reset(data.email, visitor_of(request).address)
    background = BackgroundTask(_deliver, services.password_links, asked)
    return Response(None, headers=limits.headers(asked.usages), background=background)


@post(
    "/api/users/password",
    status_code=200,
    described=Described(fields={200: LIMITS}),
    response_description="The account, with a token.",
    responses=responses(LinkExpired, *JSON_BODY, LimitReached, Busy),
)
async def set_password(
    request: JSONRequest, data: JSONBody[NewPasswordBody], services: Injected[Services]
) -> Response[UserAnswer]:
    """Set a password with a link. Each link works once, and using one invalidates all others of the account."""
    address = visitor_of(request).address
    return _session(await services.password_links.set_password(data.token, data.password, address))


@post(
    "/api/v1/users/{user_id:int}/onboarding-link",
    guards=[require_account, require_admin],
    security=SECURITY,
    response_description="The link.",
    responses=responses(*BY_TOKEN, UserNotFound, PasswordAlreadySet),
)
async def create_onboarding_link(
    user_id: Annotated[int, PathParameter(description="The account's id.")], services: Injected[Services]
) -> LinkAnswer:
    """Create a link for an imported account. It must have no password yet. Administrators only."""
    link = await services.password_links.onboard(user_id)
    return LinkAnswer(link.url, rfc3339(link.expires_at))


async def _deliver(links: PasswordLinks, asked: ResetRequest) -> None:
    try:
        await links.deliver(asked)
    except (Unavailable, OperationalError) as error:  # the response has been sent
        logger.warning("a password link could not be mailed", exc_info=error)


def _changes(fields: ChangedFields) -> Changes:
    required = {"username": fields.username, "email": fields.email}
    optional = {"bio": fields.bio, "image": fields.image}
    given = {name: value for name, value in {**required, **optional}.items() if isinstance(value, str)}
    given |= {name: "" for name, value in required.items() if value is None}  # refused as blank
    clear = frozenset(name for name, value in optional.items() if value is None)
    return Changes(**given, password=fields.password or None, clear=clear)


def _session(session: Session) -> Response[UserAnswer]:
    account = session.account
    fields = UserFields(account.id, account.email, account.username, account.bio, account.image, session.token)
    return Response(UserAnswer(fields), headers=limits.headers(session.usages))


def account_routes() -> list[Router | HTTPRouteHandler]:
    """Every route of accounts and API tokens, and the page that password links lead to."""
    own = [register, log_in, get_current_user, update_current_user, request_password_reset, set_password]
    router = Router(
        "/",
        route_handlers=[*own, create_onboarding_link, create_api_token, list_api_tokens, revoke_api_token],
        tags=["accounts"],
        request_max_body_size=MAX_BODY_BYTES,
        after_request=keep_from_caches,
    )
    return [router, password_page()]
