"""Fetching a URL from a real server on this machine, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.name_server import NameServer
from wherry.errors import JobFailed
from wherry.storage import remote
from wherry.storage.addresses import Address, is_public

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server that sends every client the same response, and counts connections."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/file.ndjson"
        self.connections = 0
        self.requests: list[bytes] = []


@asynccontextmanager
async def serving(*parts: bytes, stay: bool = False, pause: float = 0) -> AsyncIterator[Server]:
    server_is = Server(0)
    leave = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_is.connections += 1
        try:
            server_is.requests.append(await reader.readuntil(b"\r\n\r\n"))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            if stay:
                await leave.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    server_is.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file.ndjson"
    try:
        yield server_is
    finally:
        leave.set()
        server.close()
        await server.wait_closed()


def anyone(_address: Address) -> bool:
    return True


async def fetched(url: str, *, max_bytes: int = 1000, permits: Callable[[Address], bool] = anyone) -> bytes:
    chunks = remote.fetch(url, allowed_hosts=(), max_bytes=max_bytes, permits=permits)
    return b"".join([chunk async for chunk in chunks])


async def failure(url: str, **limits: object) -> str:
    with pytest.raises(JobFailed) as failed:
        await fetched(url, **limits)  # type: ignore[arg-type]
    return f"{failed.value.code}: {failed.value.message}"


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


async def test_the_body_is_returned_as_sent_without_decompressing_it() -> None:
    gzipped = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8babc"
    async with serving(OK, b"ab", b"cde") as server:
        assert await fetched(server.url) == b"abcde"
        assert b"accept-encoding: gzip, identity" in server.requests[0].lower()
    async with serving(gzipped) as server:
        assert await fetched(server.url) == b"\x1f\x8babc"


async def test_a_redirect_is_not_followed() -> None:
    async with serving(OK, b"abcde") as target:
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {target.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with serving(redirect) as server:
            assert await failure(server.url) == (
                "URL_FETCH_FAILED: The URL responded with status 302; redirects are not followed"
            )
        assert target.connections == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "URL_FETCH_FAILED: The URL responded with status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc", "URL_FETCH_FAILED: The URL could not be fetched"),
        (b"nonsense\r\n\r\n", "URL_FETCH_FAILED: The URL could not be fetched"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
            "URL_FETCH_FAILED: The",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "FILE_TOO_LARGE: "),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 1001, "FILE_TOO_LARGE: "),
    ],
)
async def test_an_error_a_broken_response_or_too_large_a_file_fails(answer: bytes, told: str) -> None:
    async with serving(answer) as server:
        assert (await failure(server.url)).startswith(told)


async def test_a_stalled_download_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STALL_SECONDS", 0.3)
    async with serving(OK, b"ab", stay=True) as server:
        assert "no data for" in await failure(server.url)


async def test_a_private_address_is_refused_without_connecting_to_it() -> None:
    async with serving(OK, b"abcde") as server:
        assert (await failure(server.url, permits=is_public)).startswith("URL_NOT_ALLOWED")
        by_name = server.url.replace("127.0.0.1", "localhost")
        assert (await failure(by_name, permits=is_public)).startswith("URL_NOT_ALLOWED")
        assert (await failure(by_name, permits=lambda address: False)).startswith("URL_NOT_ALLOWED")
        assert server.connections == 0


def but_127_0_0_1(address: Address) -> bool:
    return str(address) != "127.0.0.1"


def named(server: Server) -> str:
    return server.url.replace("127.0.0.1", "data.example")


async def test_a_host_is_resolved_once_so_that_it_cannot_rebind_to_a_private_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not even connected to: success or failure would show which ports of a private host are open."""
    names = NameServer(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    async with serving(OK, b"abcde") as server:
        assert (await failure(named(server), permits=but_127_0_0_1)).startswith("URL_FETCH_FAILED")
        assert names.asked == 1
        assert server.connections == 0


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
async def test_a_host_is_refused_if_any_of_its_addresses_is_private(
    monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    NameServer(monkeypatch, answer)
    async with serving(OK, b"abcde") as server:
        assert (await failure(named(server), permits=but_127_0_0_1)).startswith("URL_NOT_ALLOWED")
        assert server.connections == 0


async def test_the_next_address_is_tried_and_the_host_header_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    NameServer(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    async with serving(OK, b"abcde") as server:
        assert await fetched(named(server)) == b"abcde"
        host = named(server).split("/")[2]
        assert f"host: {host}\r\n".encode() in server.requests[0].lower()


async def test_tls_uses_the_host_name_and_not_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    NameServer(monkeypatch, ["127.0.0.1"])
    hello = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await failure(f"https://data.example:{port}/x")).startswith("URL_FETCH_FAILED")
    assert b"data.example" in await hello  # server_name, RFC 6066, section 3


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
async def test_a_download_that_is_too_slow_fails(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(remote, "GRACE_SECONDS", 0.5)
    async with serving(head, *[b"x"] * 900, pause=0.02) as server:
        assert await failure(server.url) == "URL_FETCH_FAILED: The URL sent less than 32768 bytes per second"


async def test_a_fast_enough_download_may_take_long_and_be_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(remote, "LEAST_BYTES_PER_SECOND", 1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"
    async with serving(head, *[b"x" * 90] * 10, pause=0.04) as server:
        assert len(await fetched(server.url)) == 900
        chunks = remote.fetch(server.url, allowed_hosts=(), max_bytes=1000, permits=anyone)
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            await asyncio.sleep(0.1)
        assert total == 900


async def test_an_unknown_host_fails() -> None:
    assert await failure("http://nowhere.invalid/x") == "URL_FETCH_FAILED: The URL's host could not be resolved"
