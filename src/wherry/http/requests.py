"""Decodes JSON bodies, decompresses bodies, and gives each request an id.

The id is the client's `X-Request-Id`, if that is well-formed. It is in every log entry and in the response.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import secrets
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, cast

import msgspec
from litestar import Request
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from wherry.errors import Malformed, MalformedJson, TooLarge, UnsupportedMedia
from wherry.imports.inflate import DAMAGED, GzipInflater
from wherry.storage.streams import limited

REQUEST_ID_HEADER = "X-Request-Id"
JSON_CODINGS = ("gzip",)

MAX_BYTES_AT_ONCE = 1 << 14
"""Larger JSON is decoded in a thread."""

MAX_VALUES = 10_000
"""The most values in a JSON body that is decoded. In memory, a value takes up to 70 times the size of its text."""

BEFORE_VALUES = (b",", b"[", b"{")
"""One of these precedes every array element and every object member. Those in strings are counted too, for speed."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_ID_KEY = "wherry_request_id"
_BODY_KEY = "wherry_decoded_body"


class JSONRequest(Request[Any, Any, Any]):
    """A request whose `json` method raises an error with the right status if the body cannot be decoded."""

    async def json(self) -> Any:
        """The decoded body, or None if it is empty.

        Raises:
            UnsupportedMedia: its type is not JSON.
            UnsupportedMedia, TooLarge, Malformed: as in `json_within`.
        """
        require_json(self)
        max_bytes = self.route_handler.resolve_request_max_body_size()
        assert max_bytes is not None, "routes without a limit call json_within"
        value = await json_within(self, max_bytes)
        _state(self.scope)[_BODY_KEY] = value
        return value


async def json_within(request: Request[Any, Any, Any], max_bytes: int) -> Any:
    """The decoded body; the request's type is not checked.

    Raises:
        UnsupportedMedia: it is compressed with something other than gzip.
        TooLarge: it has more than `max_bytes` bytes, as sent or decompressed, or too many values.
        Malformed: it is not JSON.
    """

    def too_large() -> TooLarge:
        return TooLarge(f"the body may have at most {max_bytes} bytes", field="body")

    coding = content_coding(request, *JSON_CODINGS)
    sent = limited(request.stream(), max_bytes, too_large)
    body = b"".join([piece async for piece in limited(unpacked(sent, coding), max_bytes, too_large)])
    return _decoded(body) if len(body) <= MAX_BYTES_AT_ONCE else await asyncio.to_thread(_decoded, body)


def require_json(request: Request[Any, Any, Any]) -> None:
    """Require that a body's type is JSON, or absent.

    Raises:
        UnsupportedMedia: it has another type.
    """
    media_type = request.content_type[0].lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMedia("the body must be application/json", headers={"Accept": "application/json"})


def content_coding(request: Request[Any, Any, Any], *readable: str) -> str | None:
    """How the body is compressed (RFC 9110, section 8.4): one of `readable`, or None if it is not compressed.

    Raises:
        UnsupportedMedia: it is compressed in another way; `Accept-Encoding` lists the supported ones (section 12.5.3).
    """
    given = ", ".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    coding = given.removeprefix("x-") if given == "x-gzip" else given  # equivalent, by section 8.4.1.3
    if coding in ("", "identity"):
        return None
    if coding not in readable:
        raise UnsupportedMedia(
            f"Content-Encoding must be {' or '.join(readable) or 'absent'}",
            headers={"Accept-Encoding": ", ".join(readable) or "identity"},
        )
    return coding


async def unpacked(body: AsyncIterator[bytes], coding: str | None) -> AsyncIterator[bytes]:
    """The decompressed body, in pieces; the caller limits its size.

    Raises:
        Malformed: it is not gzip, or truncated.
    """
    if coding is None:
        async for chunk in body:
            yield chunk
        return
    inflater = GzipInflater()
    try:
        async for chunk in body:
            pieces = inflater.feed(chunk)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
    except DAMAGED as error:
        raise Malformed("the body is not valid gzip, although Content-Encoding says so") from error
    if not inflater.complete:
        raise Malformed("the gzip body is truncated")


def _decoded(body: bytes) -> Any:
    text = body.removeprefix(codecs.BOM_UTF8)
    try:
        if sum(map(text.count, BEFORE_VALUES)) > MAX_VALUES:
            msgspec.json.decode(text, type=msgspec.Raw)  # checks the syntax without building anything
            raise TooLarge(f"the body may have at most {MAX_VALUES} values", field="body")
        return msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson("the body is not valid JSON") from error


class RequestIdMiddleware:
    """Adds the request's id to every log entry that is written while the request is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        with bound_contextvars(requestId=request_id_of(scope)):
            await self._app(scope, receive, send)


async def send_request_id(message: Message, scope: Scope) -> None:
    """A `before_send` hook: every response has the id, even that of an unknown route."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message)[REQUEST_ID_HEADER] = request_id_of(scope)


def request_id_of(scope: Scope) -> str:
    """The request's id: the client's if it has 8 to 64 plain characters, else 128 random bits."""
    state = _state(scope)
    if _ID_KEY not in state:
        given = Headers.from_scope(scope).get(REQUEST_ID_HEADER, "")
        state[_ID_KEY] = given if _PLAIN_ID.fullmatch(given) else secrets.token_hex(16)
    return str(state[_ID_KEY])


def has_body(headers: Headers) -> bool:
    """Whether the header fields say that the request has a body (RFC 9112, section 6.3)."""
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


def is_under(path: str, base: str) -> bool:
    """Whether a path is `base` or below it."""
    return path == base or path.startswith(f"{base}/")


def decoded_body(scope: Scope) -> object:
    """The JSON that was decoded for this request, or None."""
    return _state(scope).get(_BODY_KEY)


def _state(scope: Scope) -> MutableMapping[str, Any]:
    return cast(MutableMapping[str, Any], scope.setdefault("state", {}))
