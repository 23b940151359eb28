"""Reads requests: their JSON, how their body is packed, and the id they are known by in the log.

In: an ASGI scope and a body. Out: decoded JSON, or the refusal that says why not (400, 413, 415); an id, the caller's
own where it is a plain one, on every response as `X-Request-Id`.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import secrets
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec
from litestar import Request
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.errors import Malformed, MalformedJson, TooLarge, UnsupportedMedia
from wherry.imports.inflate import DAMAGED, GzipInflater
from wherry.logs import serving

REQUEST_ID_HEADER = "X-Request-Id"
JSON_CODINGS = ("gzip",)

MAX_BYTES_AT_ONCE = 1 << 14
"""Larger JSON is decoded in a thread."""

MAX_VALUES = 10_000
"""Of a JSON body that is held in memory, as records and graphs are not. A value takes up to 70 times its bytes."""

BEFORE_VALUES = (b",", b"[", b"{")
"""One of these is before every value but a member's; those in strings count, too, as looking closer takes longer."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_ID_KEY = "wherry_request_id"
_BODY_KEY = "wherry_decoded_body"


class JSONRequest(Request[Any, Any, Any]):
    """A request whose JSON is refused with the right status where it cannot be read."""

    async def json(self) -> Any:
        """The decoded body; None where there is none.

        Raises:
            UnsupportedMedia: it is said to be something else, or packed in another way than gzip.
            TooLarge: it is once unpacked, or it has too many values.
            Malformed: it is not JSON.
        """
        require_json(self)
        coding = content_coding(self, *JSON_CODINGS)
        value = await _decode(await self.body(), coding, self.route_handler.resolve_request_max_body_size())
        _state(self.scope)[_BODY_KEY] = value
        return value


async def json_within(request: Request[Any, Any, Any], max_bytes: int) -> Any:
    """The decoded body of a route that has no limit of its own, because it takes files too.

    Raises:
        UnsupportedMedia: it is packed in another way than gzip.
        TooLarge: it has more bytes than `max_bytes`, as sent or unpacked; no more than these are held in memory.
        Malformed: it is not JSON.
    """
    coding = content_coding(request, *JSON_CODINGS)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        _require_size(body, max_bytes)
    return await _decode(bytes(body), coding, max_bytes)


def require_json(request: Request[Any, Any, Any]) -> None:
    """Let a body pass that is said to be JSON, or not said to be anything.

    Raises:
        UnsupportedMedia: it is said to be something else.
    """
    media_type = request.content_type[0].lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMedia("the body must be application/json", headers={"Accept": "application/json"})


def content_coding(request: Request[Any, Any, Any], *readable: str) -> str | None:
    """How the body is packed (RFC 9110, section 8.4): one of `readable`, or None where it is not.

    Raises:
        UnsupportedMedia: in another way; `Accept-Encoding` names those there are (section 12.5.3).
    """
    given = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    coding = given.removeprefix("x-") if given == "x-gzip" else given  # section 8.4.1.3: the same
    if coding in ("", "identity"):
        return None
    if coding not in readable:
        raise UnsupportedMedia(
            f"Content-Encoding must be {' or '.join(readable) or 'absent'}",
            headers={"Accept-Encoding": ", ".join(readable) or "identity"},
        )
    return coding


async def unpacked(body: AsyncIterator[bytes], coding: str | None) -> AsyncIterator[bytes]:
    """A body as it was before it was packed, in pieces; the caller limits their number.

    Raises:
        Malformed: it is not gzip, or not all of it.
    """
    if coding is None:
        async for chunk in body:
            yield chunk
        return
    inflater = GzipInflater()
    with _damage_told():
        async for chunk in body:
            pieces = inflater.feed(chunk)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
    _require_complete(inflater)


async def _decode(body: bytes, coding: str | None, max_bytes: int | None) -> Any:
    if coding is None and len(body) <= MAX_BYTES_AT_ONCE:
        return _decoded(body, coding, max_bytes)
    return await asyncio.to_thread(_decoded, body, coding, max_bytes)


def _decoded(body: bytes, coding: str | None, max_bytes: int | None) -> Any:
    text = (_unpacked(body, max_bytes) if coding == "gzip" else body).removeprefix(codecs.BOM_UTF8)
    try:
        if sum(map(text.count, BEFORE_VALUES)) > MAX_VALUES:
            msgspec.json.decode(text, type=msgspec.Raw)  # looks at its syntax, and builds nothing
            raise TooLarge(f"the body may have at most {MAX_VALUES} values", field="body")
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed() from error


def _unpacked(body: bytes, max_bytes: int | None) -> bytes:
    inflater = GzipInflater()
    content = bytearray()
    with _damage_told():
        for piece in inflater.feed(body):
            content += piece
            _require_size(content, max_bytes)
    _require_complete(inflater)
    return bytes(content)


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise Malformed("the body is not valid gzip, although Content-Encoding says so") from error


def _require_complete(inflater: GzipInflater) -> None:
    if not inflater.complete:
        raise Malformed("the gzip body is truncated")


def _require_size(body: bytearray, max_bytes: int | None) -> None:
    if max_bytes is not None and len(body) > max_bytes:
        raise TooLarge(f"the body may have at most {max_bytes} bytes", field="body")


def _malformed() -> MalformedJson:
    return MalformedJson("the body is not valid JSON")


class RequestIdMiddleware(ASGIMiddleware):
    """Puts the request's id into every log entry that is written while it is served."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one request."""
        with serving(request_id_of(scope)):
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


def has_body(headers: Headers) -> bool:
    """Whether a request has a body, by its header fields (RFC 9112, section 6.3)."""
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


def is_under(path: str, base: str) -> bool:
    """Whether a path is `base` or below it."""
    return path == base or path.startswith(f"{base}/")


def decoded_body(scope: Scope) -> object:
    """The JSON that was decoded for this request; None where there was none."""
    return _state(scope).get(_BODY_KEY)


def _state(scope: Scope) -> MutableMapping[str, Any]:
    return cast(MutableMapping[str, Any], scope.setdefault("state", {}))
