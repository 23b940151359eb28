"""Answers clients that are refused again and again no faster than a few times a second.

Refusing takes as long as serving: a connection's worth of parsing, often a query. A client that sends nothing but wrong
passwords, damaged JSON or unknown keys would otherwise have as much of the process as it can take. So every client,
by its address or IPv6 network, has a budget of refusals (4xx); whoever has used it up gets further ones a little
later, each in its turn. What succeeds is never held back.

In: an application. Out: the same, whose refusals of one client are at most so many a second.
"""

from __future__ import annotations

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.networks import network_of

PER_SECOND = 20
AT_ONCE = 100
"""Refusals without a wait, for a client that had none in the last seconds: a page or a script that goes wrong."""

MANY_NETWORKS = 10_000


class PacedRefusals:
    """Wraps the whole application, so that refusals which no route makes count as well.

    Args:
        app: the application.
        per_second: refusals of one client, in the long run.
        at_once: how many of them may come without a wait.
    """

    def __init__(self, app: ASGIApp, *, per_second: float = PER_SECOND, at_once: int = AT_ONCE) -> None:
        self._app = app
        self._interval = 1 / per_second
        self._ahead = (at_once - 1) / per_second
        self._used_until: dict[str, float] = {}
        """When the last refusal of each client would be due if they came evenly (ITU-T I.371, annex A, "GCRA")."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on whatever else it is."""
        client = scope.get("client")
        if scope["type"] != ScopeType.HTTP or client is None:
            await self._app(scope, receive, send)
            return

        async def paced(message: Message) -> None:
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                await asyncio.sleep(self._wait(network_of(client[0])))
            await send(message)

        await self._app(scope, receive, paced)

    def _wait(self, network: str) -> float:
        """Count one refusal; seconds until it is due."""
        now = asyncio.get_running_loop().time()
        if len(self._used_until) > MANY_NETWORKS:
            self._used_until = {other: until for other, until in self._used_until.items() if until > now}
        due = max(now, self._used_until.get(network, now))
        self._used_until[network] = due + self._interval
        return max(0.0, due - now - self._ahead)
