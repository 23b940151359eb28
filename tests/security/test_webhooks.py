"""Receivers of webhooks that answer without end cost neither time nor memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.integration.jobs.test_webhooks import delivery_of, ended, of, webhooks
from wherry.database.pools import Connection, Pool, make_pool
from wherry.errors import DeliveryFailed

pytestmark = pytest.mark.security

LIMIT_SECONDS = 1.0
MAX_BYTES = 4 << 20
PIECE = 1 << 16


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="test", max_size=3) as opened:
        yield opened


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.connection() as taken:
        yield taken


async def _endlessly(writer: asyncio.StreamWriter, start: bytes, piece: bytes) -> None:
    writer.write(start)
    while True:
        writer.write(piece)
        await writer.drain()


HEADS = {
    "a header field": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * PIECE),
    "header fields": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * (PIECE // 6)),
    "a status line": (b"HTTP/1.1 200 ", b"x" * PIECE),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * (PIECE // 25)),
    "empty lines": (b"", b"\r\n" * (PIECE // 2)),
}
BODIES = {
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * PIECE),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * (PIECE // 6)),
    "a packed body": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08", b"\0" * PIECE),
}


async def _deliver(pool: Pool, connection: Connection, start: bytes, piece: bytes) -> tuple[str, str | None]:
    """The event's state after one attempt, and the attempt's error."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await _endlessly(writer, start, piece)
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        job = await ended(connection, url)
        tracemalloc.start()
        try:
            await asyncio.wait_for(
                webhooks(pool, seconds=LIMIT_SECONDS, webhook_url=url).deliver(of(job)), LIMIT_SECONDS + 2
            )
        except DeliveryFailed:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < MAX_BYTES
    delivery = await delivery_of(connection, job)
    return delivery.status, delivery.attempts[0].error


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_without_end_is_a_failed_attempt(pool: Pool, connection: Connection, name: str) -> None:
    status, error = await _deliver(pool, connection, *HEADS[name])
    assert status == "pending"
    assert error is not None


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_not_read(pool: Pool, connection: Connection, name: str) -> None:
    assert await _deliver(pool, connection, *BODIES[name]) == ("delivered", None)
