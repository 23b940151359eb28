"""Limits how many error responses (4xx) per second a client gets.

Refusing a request costs as much as serving one, so a client that sends nothing but wrong passwords or invalid JSON
could keep the process busy. Each address or IPv6 network therefore has a budget of 4xx responses. Once it is used up,
further ones are delayed. Successful responses are never delayed.
"""

from __future__ import annotations

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from wherry.networks import network_of

PER_SECOND = 20
AT_ONCE = 100
"""The budget of a client without recent 4xx responses: enough for a web page or a script with a bug."""

MANY_NETWORKS = 10_000


class PacedRefusals:
    """Wraps the whole application, so that 4xx responses from outside the routes count as well.

    Args:
        app: the application.
        per_second: 4xx responses per client, in the long run.
        at_once: how many of them may be sent without delay.
    """

    def __init__(self, app: ASGIApp, *, per_second: float = PER_SECOND, at_once: int = AT_ONCE) -> None:
        self._app = app
        self._interval = 1 / per_second
        self._ahead = (at_once - 1) / per_second
        self._used_until: dict[str, float] = {}
        """By client, when its next refusal would be due if they were spread evenly (ITU-T I.371, annex A, "GCRA")."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on anything else."""
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
        """Count one refusal, and return the seconds until it is due."""
        now = asyncio.get_running_loop().time()
        if len(self._used_until) > MANY_NETWORKS:
            self._used_until = {other: until for other, until in self._used_until.items() if until > now}
        due = max(now, self._used_until.get(network, now))
        self._used_until[network] = due + self._interval
        return max(0.0, due - now - self._ahead)
