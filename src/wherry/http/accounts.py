"""The routes of accounts: registration, login, the caller's own account, and links for setting a password."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from litestar import Request, Response, get, post, put
from litestar.background_tasks import BackgroundTask
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter
from psycopg import OperationalError

from wherry.accounts import limits
from wherry.accounts.limits import Usage
from wherry.accounts.links import PasswordLinks
from wherry.accounts.models import Account, Changes, ResetRequest, Session
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
from wherry.http.account_shapes import (
    ChangedFields,
    ChangesBody,
    LinkAnswer,
    LoginBody,
    NewPasswordBody,
    RegistrationBody,
    ResetBody,
    UserAnswer,
    UserFields,
)
from wherry.http.api_tokens import api_token_routes
from wherry.http.described import described
from wherry.http.password_page import password_page
from wherry.http.problems import JSON_BODY, responses
from wherry.http.security import (
    BY_TOKEN,
    require_account,
    require_admin,
    require_login,
    require_open_registration,
    visitor_of,
)
from wherry.http.services import Injected, Services
from wherry.times import rfc3339

MAX_BODY_BYTES = 64 << 10
TAGS = ["accounts"]
SECURITY: list[dict[str, list[str]]] = [{"token": []}]
NO_STORE = {"Cache-Control": "no-store"}  # the responses contain tokens
LIMITS = ("RateLimit", "RateLimit-Policy")
logger = structlog.get_logger(__name__)


@post(
    "/api/users",
    guards=[require_open_registration],
    operation_id="register",
    summary="Register",
    tags=TAGS,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(fields={201: LIMITS}),
    response_description="The new account.",
    responses=responses(Forbidden, *JSON_BODY, LimitReached, Busy),
)
async def register(
    request: Request[Any, Any, Any], data: JSONBody[RegistrationBody], services: Injected[Services]
) -> Response[UserAnswer]:
    """Create an account; the first one of an empty system becomes admin and operator."""
    return _session(await services.accounts.register(data.user, visitor_of(request)), 201)


@post(
    "/api/users/login",
    status_code=200,
    operation_id="logIn",
    summary="Log in",
    tags=TAGS,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(fields={200: LIMITS}),
    response_description="The account, with a token.",
    responses=responses(InvalidCredentials, PasswordNotSet, *JSON_BODY, LimitReached, Busy),
)
async def login(
    request: Request[Any, Any, Any], data: JSONBody[LoginBody], services: Injected[Services]
) -> Response[UserAnswer]:
    """Exchange e-mail and password for a token."""
    return _session(await services.logins.login(data.user.email, data.user.password, visitor_of(request).address), 200)


@get(
    "/api/user",
    guards=[require_account],
    operation_id="getCurrentUser",
    summary="The caller's account",
    tags=TAGS,
    security=SECURITY,
    response_description="The account.",
    responses=responses(Unauthenticated),
)
async def current_user(request: Request[Account, str, Any], caller: Injected[Account]) -> Response[UserAnswer]:
    """The account that the token belongs to."""
    return _session(Session(caller, request.auth), 200)


@put(
    "/api/user",
    guards=[require_account, require_login],
    operation_id="updateCurrentUser",
    summary="Change the caller's account",
    tags=TAGS,
    security=SECURITY,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(fields={200: LIMITS}),
    response_description="The updated account.",
    responses=responses(*BY_TOKEN, *JSON_BODY, LimitReached, Busy),
)
async def update_user(
    request: Request[Account, str, Any],
    data: JSONBody[ChangesBody],
    caller: Injected[Account],
    services: Injected[Services],
) -> Response[UserAnswer]:
    """Change any of e-mail, username, password, bio and image. API tokens are refused."""
    return _session(
        await services.accounts.update(caller, request.auth, _changes(data.user), visitor_of(request).address), 200
    )


@post(
    "/api/users/password/reset",
    status_code=202,
    operation_id="requestPasswordReset",
    summary="Request a link for setting a password",
    tags=TAGS,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(fields={202: LIMITS}),
    response_description="The request is accepted.",
    responses=responses(*JSON_BODY, LimitReached),
)
async def request_reset(
    request: Request[Any, Any, Any], data: JSONBody[ResetBody], services: Injected[Services]
) -> Response[None]:
    """The response is the same whether or not the address is known; the mail is sent afterwards."""
    asked = await services.password_links.request_reset(data.email, visitor_of(request).address)
    background = BackgroundTask(_deliver, services.password_links, asked)
    return Response(None, status_code=202, headers=_headers(asked.usages), background=background)


@post(
    "/api/users/password",
    status_code=200,
    operation_id="setPassword",
    summary="Set a password with a link",
    tags=TAGS,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(fields={200: LIMITS}),
    response_description="The account, with a token.",
    responses=responses(LinkExpired, *JSON_BODY, LimitReached, Busy),
)
async def set_password(
    request: Request[Any, Any, Any], data: JSONBody[NewPasswordBody], services: Injected[Services]
) -> Response[UserAnswer]:
    """Each link works once. Using one invalidates all other links of the account."""
    return _session(
        await services.password_links.set_password(data.token, data.password, visitor_of(request).address), 200
    )


@post(
    "/api/v1/users/{user_id:int}/onboarding-link",
    status_code=201,
    guards=[require_account, require_admin],
    operation_id="createOnboardingLink",
    summary="Create a link for an imported account",
    tags=TAGS,
    security=SECURITY,
    response_description="The link.",
    responses=responses(*BY_TOKEN, UserNotFound, PasswordAlreadySet),
)
async def onboarding_link(
    user_id: Annotated[int, PathParameter(description="The account's id.")], services: Injected[Services]
) -> Response[LinkAnswer]:
    """For an account that has no password yet; administrators only."""
    link = await services.password_links.onboard(user_id)
    return Response(LinkAnswer(link.url, rfc3339(link.expires_at)), status_code=201, headers=NO_STORE)


def account_routes() -> list[HTTPRouteHandler]:
    """Every route of accounts and API tokens, and the page that password links lead to."""
    api = [register, login, current_user, update_user, request_reset, set_password, onboarding_link]
    return [*api, *api_token_routes(), password_page()]


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


def _session(session: Session, status: int) -> Response[UserAnswer]:
    account = session.account
    fields = UserFields(account.id, account.email, account.username, account.bio, account.image, session.token)
    return Response(UserAnswer(fields), status_code=status, headers=_headers(session.usages))


def _headers(usages: tuple[Usage, ...]) -> dict[str, str]:
    return {**NO_STORE, **limits.headers(usages)}
