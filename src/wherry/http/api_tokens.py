"""API tokens: made, listed and revoked by their owner, who has to be logged in for it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.params import FromPath, JSONBody

from wherry.accounts.api_tokens import MAX_NAME
from wherry.accounts.models import Account, ApiToken
from wherry.errors import Conflict, NotFound
from wherry.http.described import JSON, described, members, nullable, wrapped_or_bare
from wherry.http.problems import JSON_BODY, responses
from wherry.http.security import BY_TOKEN, require_account, require_login
from wherry.http.services import Injected, Services
from wherry.times import Time, rfc3339

MAX_BODY_BYTES = 16 << 10
SECURITY: list[dict[str, list[str]]] = [{"token": []}]
NO_STORE = {"Cache-Control": "no-store"}
ASKED = members(
    ["name"],
    name=Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_NAME),
    expiresAt=nullable(Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)),
)


class TokenFields(msgspec.Struct, rename="camel"):
    """What a token is called, and when it expires, if ever."""

    name: str | None = None
    expires_at: str | None = None


class TokenBody(TokenFields):
    """A token that is wanted: its fields bare, or inside `apiToken`."""

    api_token: TokenFields | None = None


class ApiTokenFields(msgspec.Struct, rename="camel"):
    """An API token. `prefix` is how its secret begins; `lastUsedAt` is exact to a minute."""

    id: str
    name: str
    prefix: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None


class NewApiTokenFields(ApiTokenFields, kw_only=True):
    """An API token with its secret, which is shown this once."""

    token: str


class NewApiTokenAnswer(msgspec.Struct, rename="camel"):
    """An API token that was just made."""

    api_token: NewApiTokenFields


class ApiTokensAnswer(msgspec.Struct, rename="camel"):
    """The caller's API tokens, oldest first."""

    api_tokens: list[ApiTokenFields]


@post(
    "/api/user/tokens",
    status_code=201,
    guards=[require_account, require_login],
    summary="Make an API token",
    tags=["accounts"],
    security=SECURITY,
    request_max_body_size=MAX_BODY_BYTES,
    operation_class=described(body={JSON: wrapped_or_bare("apiToken", ASKED)}),
    responses=responses(*BY_TOKEN, Conflict, *JSON_BODY),
)
async def create_token(
    data: JSONBody[TokenBody], caller: Injected[Account], services: Injected[Services]
) -> Response[NewApiTokenAnswer]:
    """A credential for scripts, which may do what its owner may on `/api/v1`, until it expires or is deleted."""
    asked = data.api_token or data
    made = await services.api_tokens.create(caller, asked.name, asked.expires_at)
    answer = NewApiTokenAnswer(NewApiTokenFields(**_fields(made.token), token=made.secret))
    return Response(answer, status_code=201, headers=NO_STORE)


@get(
    "/api/user/tokens",
    guards=[require_account, require_login],
    summary="Your API tokens",
    tags=["accounts"],
    security=SECURITY,
    responses=responses(*BY_TOKEN),
)
async def list_tokens(caller: Injected[Account], services: Injected[Services]) -> Response[ApiTokensAnswer]:
    """Those that have not expired."""
    found = await services.api_tokens.live(caller)
    return Response(ApiTokensAnswer([ApiTokenFields(**_fields(token)) for token in found]), headers=NO_STORE)


@delete(
    "/api/user/tokens/{token_id:str}",
    status_code=204,
    guards=[require_account, require_login],
    summary="Revoke an API token",
    tags=["accounts"],
    security=SECURITY,
    responses=responses(*BY_TOKEN, NotFound),
)
async def revoke_token(token_id: FromPath[str], caller: Injected[Account], services: Injected[Services]) -> None:
    """It ends at once."""
    await services.api_tokens.revoke(caller, token_id)


def api_token_routes() -> list[HTTPRouteHandler]:
    """Every route of this module."""
    return [create_token, list_tokens, revoke_token]


def _fields(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "prefix": token.prefix,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "last_used_at": rfc3339(token.last_used_at),
    }
