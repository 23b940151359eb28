"""Clients that get many error responses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.security.test_protocol import HOST, serving
from wherry.http import refusals
from wherry.http.protocol import BoundedProtocol
from wherry.http.refusals import PacedRefusals

pytestmark = pytest.mark.security

AT_ONCE = 5
SECONDS = 10


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Responds with the status in the path."""
    await send({"type": "http.response.start", "status": int(scope["path"].strip("/")), "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Clients:
    """Requests from any address. A client that has used up its budget gets one error response per hour."""

    def __init__(self) -> None:
        self._app = PacedRefusals(application, per_second=1 / 3600, at_once=AT_ONCE)

    async def get(self, status: int, address: str = "192.0.2.1") -> int:
        transport = httpx.ASGITransport(self._app, client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer: httpx.Response = await asyncio.wait_for(client.get(f"/{status}"), SECONDS)
        return answer.status_code

    async def is_held_back(self, status: int, address: str = "192.0.2.1") -> bool:
        asked = asyncio.create_task(self.get(status, address))
        for _ in range(100):  # rounds of the event loop: an answer that is not held back takes a few
            await asyncio.sleep(0)
        held_back = not asked.done()
        asked.cancel()
        return held_back


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
async def test_refusals_over_the_budget_are_delayed(status: int) -> None:
    clients = Clients()
    assert [await clients.is_held_back(status) for _ in range(AT_ONCE + 2)] == [False] * AT_ONCE + [True] * 2


@pytest.mark.parametrize("status", [200, 202, 304, 500, 503])
async def test_other_responses_are_neither_delayed_nor_counted(status: int) -> None:
    clients = Clients()
    for _ in range(2 * AT_ONCE):
        assert await clients.get(status) == status
    for _ in range(AT_ONCE):
        assert await clients.get(404) == 404
    assert await clients.is_held_back(404)
    assert await clients.get(status) == status


async def test_every_address_or_ipv6_network_has_its_own_budget() -> None:
    clients = Clients()
    for _ in range(AT_ONCE):
        await clients.get(404, "2001:db8::1")
    assert await clients.is_held_back(404, "2001:db8::2")
    assert not await clients.is_held_back(404, "2001:db8:0:1::1")
    assert not await clients.is_held_back(404, "192.0.2.1")


async def test_clients_without_pending_refusals_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MANY_NETWORKS", 3)
    app = PacedRefusals(application, per_second=1e9, at_once=1)
    for number in range(10):
        transport = httpx.ASGITransport(app, client=(f"192.0.2.{number}", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.get("/404")
        assert len(app._used_until) <= 4


async def test_the_api_delays_refusals_and_serves_its_other_clients() -> None:
    async with serving(BoundedProtocol, application=application) as (port, _):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", limits=limits, timeout=60) as client:
            flood = [asyncio.create_task(client.get("/401")) for _ in range(refusals.AT_ONCE + 40)]
            answered = asyncio.as_completed(flood)
            for _ in range(refusals.AT_ONCE):
                await next(answered)
            assert (await client.get("/200")).status_code == 200
            assert sum(not request.done() for request in flood) > 20
            await asyncio.gather(*flood)
