"""The routes of API tokens, which their owner creates, lists and revokes after logging in."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct

from wherry.accounts.api_tokens import MAX_NAME
from wherry.accounts.models import NOT_NULL, ApiToken
from wherry.errors import Conflict, NotFound
from wherry.http.problems import JSON_BODY, responses
from wherry.http.security import BY_TOKEN, AccountRequest, require_account, require_login
from wherry.http.services import Injected, Services
from wherry.times import Time, rfc3339

MAX_BODY_BYTES = 16 << 10
SECURITY: list[dict[str, list[str]]] = [{"token": []}]
TOKEN_NAME = Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_NAME, NOT_NULL: True})


class TokenFields(Struct, rename="camel"):
    """An API token to create."""

    name: Annotated[str | None, TOKEN_NAME] = None
    expires_at: Annotated[Time | None, Meta(description="By default the token does not expire.")] = None


class TokenBody(TokenFields):
    """An API token to create; the same fields may also be sent inside `apiToken`."""

    api_token: TokenFields | None = None


class ApiTokenFields(Struct, rename="camel"):
    """An API token."""

    id: str
    name: str
    prefix: Annotated[str, Meta(description="The first characters of its secret.")]
    created_at: Time
    expires_at: Time | None
    last_used_at: Annotated[Time | None, Meta(description="Exact to a minute.")]


class NewApiTokenFields(ApiTokenFields, kw_only=True):
    """An API token with its secret."""

    token: Annotated[str, Meta(description="The secret, which is shown only this once.")]


class NewApiTokenAnswer(Struct, rename="camel"):
    """An API token that was just created."""

    api_token: NewApiTokenFields


class ApiTokensAnswer(Struct, rename="camel"):
    """The caller's API tokens, oldest first."""

    api_tokens: list[ApiTokenFields]


@post(
    "/api/user/tokens",
    guards=[require_account, require_login],
    security=SECURITY,
    request_max_body_size=MAX_BODY_BYTES,
    response_description="The token, with its secret.",
    responses=responses(*BY_TOKEN, Conflict, *JSON_BODY),
)
async def create_api_token(
    request: AccountRequest, data: JSONBody[TokenBody], services: Injected[Services]
) -> NewApiTokenAnswer:
    """Create an API token. Until it expires or is revoked, it may do whatever its owner may do under `/api/v1`."""
    asked = data.api_token or data
    made = await services.api_tokens.create(request.user, asked.name, asked.expires_at)
    return NewApiTokenAnswer(NewApiTokenFields(**_fields(made.token), token=made.secret))


@get(
    "/api/user/tokens",
    guards=[require_account, require_login],
    security=SECURITY,
    response_description="The tokens, oldest first.",
    responses=responses(*BY_TOKEN),
)
async def list_api_tokens(request: AccountRequest, services: Injected[Services]) -> ApiTokensAnswer:
    """Your API tokens. Expired ones are left out."""
    found = await services.api_tokens.live(request.user)
    return ApiTokensAnswer([ApiTokenFields(**_fields(token)) for token in found])


@delete(
    "/api/user/tokens/{token_id:str}",
    guards=[require_account, require_login],
    security=SECURITY,
    response_description="The token is revoked.",
    responses=responses(*BY_TOKEN, NotFound),
)
async def revoke_api_token(
    request: AccountRequest,
    token_id: Annotated[str, PathParameter(description="The token's id.", schema_extra={"format": "uuid"})],
    services: Injected[Services],
) -> None:
    """Revoke an API token. It stops working at once."""
    await services.api_tokens.revoke(request.user, token_id)


def _fields(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "prefix": token.prefix,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "last_used_at": rfc3339(token.last_used_at),
    }
