"""JSON bodies that would become millions of objects do not block the event loop."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import httpx
import pytest

from tests.accounts_app import bearer, register
from tests.security.test_bounded_text import application

pytestmark = pytest.mark.security

STALL_SECONDS = 0.1
TICK = 0.002
TRIES = 3  # a machine that is busy with other things may keep this process waiting
BODY_BYTES = 1_000_000  # less than a route takes
SENDERS = 5

BODIES = {
    "arrays": b"[],",
    "objects": b"{},",
    "members": b'{"":[]},',
    "numbers": b"0,",
    "strings": b'"",',
    "nested": b"[[[[]]]],",
}


async def longest_stall(sending: asyncio.Future[list[httpx.Response]]) -> float:
    loop = asyncio.get_running_loop()
    longest, last = 0.0, loop.time()
    while not sending.done():
        await asyncio.sleep(TICK)
        longest, last = max(longest, loop.time() - last - TICK), loop.time()
    return longest


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("part", BODIES.values(), ids=BODIES.keys())
async def test_a_body_of_many_values_delays_nobody(
    database_url: str, tmp_path: Path, part: bytes, packed: bool
) -> None:
    body = b"[" + part * (BODY_BYTES // len(part)) + b"0]"
    coding = {"Content-Encoding": "gzip"} if packed else {}
    async with application(database_url, tmp_path) as app:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {**bearer((await register(client, "captain"))["token"]), "Content-Type": "application/json"}
            content = gzip.compress(body) if packed else body
            stalls: list[float] = []
            while len(stalls) < TRIES and min(stalls, default=1) > STALL_SECONDS:
                requests = (
                    client.post("/api/v1/exports", content=content, headers={**headers, **coding})
                    for _ in range(SENDERS)
                )
                sending = asyncio.gather(*requests)
                stalls.append(await longest_stall(sending))
                assert {each.status_code for each in sending.result()} == {413}
    assert min(stalls) < STALL_SECONDS, stalls
