"""Logs one line per HTTP request once its response has ended, including long uploads, downloads and event streams.

The line contains no query and no headers, so that no credentials get into the log.
"""

from __future__ import annotations

import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.http.requests import request_id_of

log = structlog.get_logger(__name__)


class AccessLog:
    """Wraps the whole application, so that requests without a route are logged too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on anything else."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status: int | None = None
        complete = False

        async def send_and_note(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            log.info(
                "request",
                requestId=request_id_of(scope),
                method=scope["method"],
                path=scope["path"],
                status=status,
                complete=complete,
                durationMs=round((time.monotonic() - started) * 1000),
                client=_address(scope),
            )


def _address(scope: Scope) -> str | None:
    """The client's address, as reported by a trusted proxy if there is one."""
    client = scope.get("client")
    return None if client is None else client[0]
