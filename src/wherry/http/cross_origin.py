"""Cross-origin requests (Fetch Standard, "HTTP extensions"): lets web pages from other origins call the API.

This covers only the API routes, which never read cookies: a page can do what its token allows, and cannot act as the
person who is signed in to the dashboard. So no response allows credentials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.http.requests import is_under

API_PATHS = ("/api", "/v1")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
MAX_AGE_SECONDS = 3600
MAX_REQUESTED_CHARACTERS = 1000

REQUEST_HEADERS = ("Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Range")
"""Headers that a page may send. `*` would not include `Authorization`."""

EXPOSED_HEADERS = (
    *("Content-Disposition", "ETag", "Idempotent-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy"),
    *("Repr-Digest", "Retry-After", "X-Request-Id"),
)
"""Headers that a page may read, in addition to those that the standard always exposes."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class CrossOrigin:
    """Answers preflight requests and adds the CORS headers to every other response, errors included.

    Args:
        app: the application.
        allowed_origins: origins such as `https://app.example`; `*` allows every one.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in allowed_origins
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not any(is_under(scope["path"], base) for base in API_PATHS):
            await self._app(scope, receive, send)
            return
        sent = Headers.from_scope(scope)
        headers = self._origin_headers(sent.get("Origin"))
        if scope["method"] == "OPTIONS" and "Access-Control-Request-Method" in sent:
            headers |= _preflight_headers(sent.get("Access-Control-Request-Headers", ""))
            await ASGIResponse(status_code=204, headers=headers)(scope, receive, send)
            return
        headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED_HEADERS)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableScopeHeaders.from_message(message).update(headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _origin_headers(self, origin: str | None) -> dict[str, str]:
        if self._any:
            return {"Access-Control-Allow-Origin": "*"}
        allowed = {} if origin not in self._allowed else {"Access-Control-Allow-Origin": str(origin)}
        return {"Vary": "Origin", **allowed}


def _preflight_headers(requested: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Methods": ", ".join(METHODS),
        "Access-Control-Allow-Headers": ", ".join([*REQUEST_HEADERS, *_also_allowed(requested)]),
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
    }


def _also_allowed(requested: str) -> list[str]:
    """Other headers that the page wants to send; the older services allowed all of them."""
    known = {name.lower() for name in REQUEST_HEADERS}
    names = (name.strip() for name in requested[:MAX_REQUESTED_CHARACTERS].split(","))
    return [name for name in names if _HEADER_NAME.fullmatch(name) and name.lower() not in known]
