"""One line per HTTP request, written when its response has ended: an upload, a download, an event stream too.

It shows the path without the query, and no header: neither can carry a credential into the log.
"""

from __future__ import annotations

import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.http.requests import request_id_of

log = structlog.get_logger(__name__)


class AccessLog:
    """Wraps the whole application, so that requests which no route takes are logged too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on whatever else it is."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status: int | None = None
        whole = False

        async def noting(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            log.info(
                "request",
                requestId=request_id_of(scope),
                method=scope["method"],
                path=scope["path"],
                status=status,
                complete=whole,
                durationMs=round((time.monotonic() - started) * 1000),
                client=_address(scope),
            )


def _address(scope: Scope) -> str | None:
    """The client's address; behind a trusted proxy, the one that the proxy names."""
    client = scope.get("client")
    return None if client is None else client[0]
