"""Hostile connections: endless headers, and clients that keep the server waiting."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.processes import service
from wherry.accounts.limits import network_hash
from wherry.cli.api import server_config
from wherry.http.protocol import MAX_FILES, MAX_HEAD_BYTES, BoundedProtocol
from wherry.this_process import allow_open_files

pytestmark = pytest.mark.security

HOST = "127.0.0.1"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TICK = 0.1


class Quick(BoundedProtocol):
    """Has short timeouts, so that the tests are short."""

    head_seconds = 6 * TICK
    stall_seconds = 6 * TICK
    check_seconds = TICK
    body_rate = 2


@dataclass
class Application:
    """Responds with the length of the body, or with what the path names. Records how each request ended."""

    ended: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/quiet":
            await send(start)
            await asyncio.sleep(12 * TICK)
            await send({"type": "http.response.body", "body": b"done"})
        elif scope["path"] == "/large":
            await send(start)
            for _ in range(64):
                await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._tell_length(receive, send, start)

    async def _tell_length(self, receive: Any, send: Any, start: Any) -> None:
        size, message = 0, {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            size += len(message.get("body", b""))
        self.ended.append(message["type"])
        await send(start)
        await send({"type": "http.response.body", "body": b"%d" % size})


@asynccontextmanager
async def serving(
    protocol: type[BoundedProtocol] = Quick,
    trusted: tuple[str, ...] = (),
    *,
    listener: socket.socket | None = None,
    application: Any = None,
) -> AsyncIterator[Any]:
    application = application or Application()
    config = server_config(application, trusted)
    config.http, config.lifespan = protocol, "off"
    server = uvicorn.Server(config)
    with listener or socket.create_server((HOST, 0)) as listener:
        task = asyncio.create_task(server._serve([listener]))
        while not server.started:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1], application
        finally:
            server.should_exit = server.force_exit = True
            await task


async def answer(port: int, *pieces: bytes, pause: float = 0) -> bytes:
    """Everything that the server sends before it closes the connection; empty if it resets it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        with suppress(ConnectionError):
            return await asyncio.wait_for(reader.read(), 30)
        return b""
    finally:
        writer.close()


ENDLESS = {
    "value": (GET, b"X: " + b"a" * (1 << 20)),
    "name": (GET, b"a" * (1 << 20)),
    "fields": (GET, b"A: b\r\n" * 200_000),
    "small fields": (GET, b"A:\r\n" * 4000),
    "address": (b"GET /" + b"a" * (1 << 20),),
    "empty lines": (b"\r\n" * (1 << 19),),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 200_000),
    "trailer": (CHUNKED + b"0\r\nA: ", b"b" * (1 << 20)),
    "chunk extension": (CHUNKED + b"1;a=", b"b" * (1 << 20)),
    "after another request": (GET + b"\r\n", GET, b"A: b\r\n" * 200_000),
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS.keys())
async def test_endless_headers_are_refused(pieces: tuple[bytes, ...]) -> None:
    async with serving(BoundedProtocol) as (port, application):
        said = await answer(port, *pieces, pause=TICK)
        head, _, body = said[said.index(b"HTTP/1.1 431") :].partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert json.loads(body)["code"] == "HEAD_TOO_LARGE"
        assert all(end == "http.disconnect" for end in application.ended[said.count(b"HTTP/1.1 200") :])


async def test_long_headers_are_accepted_in_any_number_of_pieces() -> None:
    head = GET + b"X: " + b"a" * (MAX_HEAD_BYTES - 1000) + b"\r\nConnection: close\r\n\r\n"
    async with serving(BoundedProtocol) as (port, _):
        for pieces in ((head,), tuple(head[start : start + 9999] for start in range(0, len(head), 9999))):
            assert (await answer(port, *pieces)).startswith(b"HTTP/1.1 200")


async def test_many_requests_and_small_chunks_do_not_count_as_long_headers() -> None:
    body = b"1;some=extension\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    async with serving(BoundedProtocol) as (port, _):
        said = await answer(port, *[CHUNKED + body] * 3, GET + b"Connection: close\r\n\r\n", pause=TICK)
    assert said.count(b"HTTP/1.1 200") == 4
    assert said.count(b"20000") == 3


STALLED = {
    "nothing": (),
    "half a head": (GET,),
    "half a body": (POST + b"Content-Length: 9\r\n\r\nhalf",),
    "half a head after another request": (GET + b"\r\n", GET),
    "a body that nobody reads": (b"POST /quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",),
}


@pytest.mark.parametrize("pieces", STALLED.values(), ids=STALLED.keys())
async def test_a_silent_client_is_disconnected(pieces: tuple[bytes, ...]) -> None:
    async with serving() as (port, _):
        await asyncio.wait_for(answer(port, *pieces, pause=TICK), 20 * TICK)


async def test_the_application_learns_that_a_body_will_not_come() -> None:
    async with serving() as (port, application):
        await answer(port, POST + b"Content-Length: 9\r\n\r\nhalf")
        assert application.ended == ["http.disconnect"]


async def test_headers_that_arrive_byte_by_byte_are_cut_off() -> None:
    async with serving() as (port, _):
        drip = answer(port, GET, *[b"X"] * 40, pause=TICK)
        assert await asyncio.wait_for(drip, 60 * TICK) == b""


async def test_a_slow_body_that_progresses_is_accepted() -> None:
    async with serving() as (port, _):
        said = await answer(port, POST + b"Content-Length: 8\r\nConnection: close\r\n\r\n", *[b"x"] * 8, pause=3 * TICK)
    assert said.startswith(b"HTTP/1.1 200")


class Demanding(Quick):
    body_rate = 200  # 120 bytes may be missing, as it looks at 0.6 s


async def dripped(port: int, pieces: list[bytes]) -> bytes:
    """Everything that the server sends to a client that sends one piece per tick."""
    reader, writer = await asyncio.open_connection(HOST, port)

    async def send() -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(TICK)

    sending = asyncio.create_task(send())
    try:
        return await reader.read()
    finally:
        sending.cancel()
        writer.close()


SLOW_BODIES = {
    "byte by byte": [b"x"] * 60,
    "byte by byte after a burst": [b"x" * 100_000] + [b"x"] * 60,
    "of chunks": [b"1\r\nx\r\n"] * 60,
}


@pytest.mark.parametrize("pieces", SLOW_BODIES.values(), ids=SLOW_BODIES.keys())
async def test_a_body_that_hardly_progresses_is_refused(pieces: list[bytes]) -> None:
    head = CHUNKED if pieces[0].startswith(b"1\r") else POST + b"Content-Length: 999999\r\n\r\n"
    async with serving(Demanding) as (port, application):
        started = asyncio.get_running_loop().time()
        said = await dripped(port, [head.replace(b"POST /", b"POST /api/x"), *pieces])
        assert asyncio.get_running_loop().time() - started < 60 * TICK
        assert said.startswith(b"HTTP/1.1 408")
        problem = json.loads(said.partition(b"\r\n\r\n")[2])
        assert (problem["code"], problem["errors"]) == ("REQUEST_TIMEOUT", {})
        assert application.ended == ["http.disconnect"]


async def test_a_body_over_a_slow_network_may_take_any_time() -> None:
    """At eight times the minimum rate; with the default, that is 8 KiB/s."""
    async with serving(Demanding) as (port, _):
        head = POST + b"Content-Length: 4000\r\nConnection: close\r\n\r\n"
        said = await answer(port, head, *[b"x" * 160] * 25, pause=TICK)
    assert said.startswith(b"HTTP/1.1 200")


async def connect(port: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port, local_addr=(source, 0))


async def status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    with suppress(ConnectionError):
        writer.write(GET + b"\r\n")
        return (await reader.readline())[9:12]
    return b""


async def test_one_address_cannot_take_every_connection() -> None:
    class Small(Quick):
        max_connections = 40

    async with serving(Small) as (port, _):
        held = [await connect(port, HOST) for _ in range(45)]
        for _, writer in held:
            writer.write(POST + b"Content-Length: 9\r\n\r\nx")
        await asyncio.sleep(TICK)
        said = await answer(port)
        assert said.startswith(b"HTTP/1.1 429")
        assert b"retry-after: " in said
        assert json.loads(said.partition(b"\r\n\r\n")[2])["code"] == "CONCURRENT_LIMIT"
        reader, writer = await connect(port, "127.0.0.2")
        assert await status(reader, writer) == b"200"
        for _, each in [*held, (reader, writer)]:
            each.close()


async def test_one_address_may_have_hundreds_of_connections() -> None:
    """An office has one address, and everybody there may be following a job."""
    allow_open_files(MAX_FILES)
    async with serving(BoundedProtocol) as (port, _):
        held = [await connect(port, HOST) for _ in range(600)]
        assert {await status(*each) for each in held} == {b"200"}
        for _, writer in held:
            writer.close()
            await writer.wait_closed()


async def test_connections_that_were_closed_no_longer_count() -> None:
    class Small(Quick):
        max_connections = 8

    async with serving(Small) as (port, _):
        for _ in range(3):
            held = [await connect(port, HOST) for _ in range(2)]
            assert [await status(*each) for each in held] == [b"200"] * 2
            for reader, writer in held:
                writer.write(GET + b"Connection: close\r\n\r\n")
                await reader.read()  # until the server has closed it
                writer.close()


async def test_an_ipv4_client_of_an_ipv6_server_counts_as_ipv4() -> None:
    """It has its own share of connections, and limits and logs show its IPv4 address, as with HOST=::."""
    seen: list[str] = []

    class Small(Quick):
        max_connections = 8

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::ffff:127.0.0.1", 0))
        listener.listen()
        async with serving(Small, listener=listener, application=application) as (port, _):
            held = [await connect(port, f"127.0.0.{number}") for number in (1, 2, 3, 4)]
            assert [await status(*each) for each in held] == [b"200"] * 4
            for _, writer in held:
                writer.close()
    assert seen == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]


def test_limits_do_not_depend_on_the_spelling_of_an_address() -> None:
    assert network_hash("::ffff:192.0.2.1") == network_hash("192.0.2.1") != network_hash("::ffff:192.0.2.2")
    assert network_hash("2001:db8::1") == network_hash("2001:DB8:0::2") != network_hash("2001:db8:0:1::1")
    assert network_hash("fe80::1%eth0") == network_hash("fe80::1")


async def test_a_trusted_proxy_may_use_more_connections_than_a_client() -> None:
    class Small(Quick):
        max_connections = 8

    async with serving(Small, trusted=("127.0.0.0/30",)) as (port, _):
        held = [await connect(port, HOST) for _ in range(8)]
        assert [await status(*each) for each in held] == [b"200"] * 8
        for _, writer in held:
            writer.close()


MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header without a colon": b"GET /api/user HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    "a control character in a header": b"GET /api/user HTTP/1.1\r\nHost: x\r\nA: a\x00b\r\n\r\n",
    "two lengths": b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n",
    "a broken chunk": CHUNKED + b"zz\r\n",
    "an address that is none": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address that is not ASCII": "GET /ü HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
async def test_bytes_that_are_not_http_get_a_problem_response(sent: bytes) -> None:
    async with serving(BoundedProtocol) as (port, _):
        head, _, body = (await answer(port, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "BAD_REQUEST")
    assert ("errors" in problem) == (b" /api" in sent)


async def test_a_slow_handler_does_not_end_the_connection() -> None:
    async with serving() as (port, _):
        said = await answer(port, b"GET /quiet HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"done" in said


async def taken(port: int, per_tick: Callable[[int], int]) -> tuple[int, bool]:
    """How many bytes of a large response a client reads in 20 ticks, and whether it is still connected then."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (HOST, port))
        await loop.sock_sendall(client, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        size = 0
        for tick in range(20):
            await asyncio.sleep(TICK)
            if count := per_tick(tick):
                size += len(await loop.sock_recv(client, count))
        try:
            await loop.sock_sendall(client, b"\r\n")
            await asyncio.sleep(TICK)
            await loop.sock_sendall(client, b"\r\n")
        except ConnectionError:
            return size, False
        return size, True


async def test_a_client_that_reads_nothing_of_a_response_is_disconnected() -> None:
    async with serving() as (port, _):
        assert await taken(port, lambda tick: 0) == (0, False)


async def test_a_client_that_reads_a_response_slowly_is_served() -> None:
    async with serving() as (port, _):
        size, connected = await taken(port, lambda tick: 4096)
    assert connected
    assert size > 20_000


async def test_a_connection_over_the_limit_is_refused_and_earlier_ones_are_served() -> None:
    class Small(Quick):
        max_connections = 2
        max_share = 1

    async with serving(Small) as (port, _):
        first = await asyncio.open_connection(HOST, port)
        second = await asyncio.open_connection(HOST, port)
        await asyncio.sleep(TICK)
        said = await answer(port)
        assert said.startswith(b"HTTP/1.1 503")
        assert b"retry-after: " in said
        for reader, writer in (first, second):
            writer.write(GET + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()


@pytest.mark.parametrize(("trusted", "client"), [((), HOST), (("127.0.0.0/8",), "203.0.113.7"), (("10.0.0.1",), HOST)])
async def test_only_a_trusted_proxy_can_report_a_clients_address(trusted: tuple[str, ...], client: str) -> None:
    seen: list[str] = []
    config = server_config(None, trusted)  # type: ignore[arg-type]  # replaced below

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    config.app = application
    config.load()
    scope = {"type": "http", "client": (HOST, 1), "headers": [(b"x-forwarded-for", b"203.0.113.7")]}
    await config.loaded_app(scope, None, None)
    assert seen == [client]


def test_an_address_that_a_client_claims_does_not_get_it_more_logins(database_url: str, tmp_path: Path) -> None:
    statuses = []
    with service(database_url, tmp_path, workers=0) as running, running.client() as client:
        for number in range(60):
            body = {"user": {"email": f"n{number}@example.com", "password": "x"}}
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            statuses.append(client.post("/api/users/login", json=body, headers=headers).status_code)
            if statuses[-1] == httpx.codes.TOO_MANY_REQUESTS:
                break
    assert set(statuses[:-1]) == {403}
    assert statuses[-1] == 429
