"""Reads requests: their JSON, and the id they are known by in the log.

In: an ASGI scope and a body. Out: decoded JSON, or the refusal that says why not (400, 413, 415); an id, the caller's
own where it is a plain one, on every response as `X-Request-Id`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import MutableMapping
from typing import Any, cast

import msgspec
import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.exceptions import SerializationException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send

from wherry.errors import Invalid, Malformed, TooLarge, UnsupportedMedia

REQUEST_ID_HEADER = "X-Request-Id"
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_ID_KEY = "wherry_request_id"
_BODY_KEY = "wherry_decoded_body"


class JSONRequest(Request[Any, Any, Any]):
    """A request whose JSON is refused with the right status where it cannot be read.

    msgspec raises errors of three kinds, of which the framework knows one.
    """

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            UnsupportedMedia: it is said to be something else.
            Malformed: it is not JSON.
        """
        media_type = self.content_type[0].lower()
        if media_type and media_type != "application/json" and not media_type.endswith("+json"):
            raise UnsupportedMedia("the body must be application/json", headers={"Accept": "application/json"})
        try:
            value = await super().json()
        except (SerializationException, UnicodeDecodeError, RecursionError) as error:
            raise _malformed() from error
        _state(self.scope)[_BODY_KEY] = value
        return value


async def json_within(request: Request[Any, Any, Any], max_bytes: int) -> Any:
    """The decoded body of a route that has no limit of its own, because it takes files too.

    Raises:
        TooLarge: it has more bytes than `max_bytes`; no more than these are held in memory.
        Malformed: it is not JSON.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(f"the body may have at most {max_bytes} bytes", field="body")
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed() from error


def digits(*names: str) -> Guard:
    """A guard: these numbers of the query are written in digits alone. `1e3` and `1.0` are none to a client."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        for name in names:
            for text in connection.query_params.getall(name, []):
                if not _DIGITS.fullmatch(text):
                    raise Invalid(f"{name} must be an integer of at most 18 digits", field=name)

    return check


def _malformed() -> Malformed:
    return Malformed("the body is not valid JSON", code="MALFORMED_JSON")


class RequestIdMiddleware(ASGIMiddleware):
    """Puts the request's id into every log entry that is written while it is served."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one request."""
        with structlog.contextvars.bound_contextvars(request_id=request_id_of(scope)):
            await next_app(scope, receive, send)


async def send_request_id(message: Message, scope: Scope) -> None:
    """A `before_send` hook: every response tells the id, errors of routing included."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message)[REQUEST_ID_HEADER] = request_id_of(scope)


def request_id_of(scope: Scope) -> str:
    """The request's id: the caller's where it is 8 to 64 plain characters, else 128 random bits."""
    state = _state(scope)
    if _ID_KEY not in state:
        given = Headers.from_scope(scope).get(REQUEST_ID_HEADER, "")
        state[_ID_KEY] = given if _PLAIN_ID.fullmatch(given) else secrets.token_hex(16)
    return str(state[_ID_KEY])


def decoded_body(scope: Scope) -> object:
    """The JSON that was decoded for this request; None where there was none."""
    return _state(scope).get(_BODY_KEY)


def _state(scope: Scope) -> MutableMapping[str, Any]:
    return cast(MutableMapping[str, Any], scope.setdefault("state", {}))
