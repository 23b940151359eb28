"""TCP proxies in front of PostgreSQL that disturb the connections of wherry's processes.

Each listens on loopback, in its own thread; use its `url` instead of the server's.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

COMMIT = b"COMMIT\x00"
NAME = re.compile(rb"application_name\x00([^\x00]*)\x00")
CHUNK = 1 << 16


@dataclass(eq=False)
class Link:
    """A client's connection through the proxy.

    Attributes:
        name: its `application_name`.
        is_cut: it will be reset when the server responds.
        is_dropped: nothing passes any more, and neither side learns of it, not even when the other one closes.
    """

    name: str = ""
    is_cut: bool = False
    is_dropped: bool = False


class Cut(Exception):
    """Ends a connection."""


class Proxy:
    """Passes everything on.

    Args:
        server_url: of the PostgreSQL server.
    """

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self.url = ""
        self._clients: list[asyncio.Task[None]] = []

    async def serve(self, ready: threading.Event) -> None:
        """Run until `stop` is called."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = f"{self._server.username}@" if self._server.username else ""
        self.url = urlunsplit(self._server._replace(netloc=f"{user}127.0.0.1:{port}"))
        ready.set()
        async with server:
            await self._stopping.wait()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def stop(self) -> None:
        """Stop serving; called from another thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def connect(self, link: Link) -> None:
        """A client has connected."""

    def send(self, link: Link, chunk: bytes) -> bool:
        """Whether the client's bytes are passed on. Raises `Cut` to end the connection."""
        return True

    def receive(self, link: Link, chunk: bytes) -> bool:
        """Whether the server's bytes are passed on. Raises `Cut` to end the connection."""
        return True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(asyncio.create_task(self._client(reader, writer)))

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        link = Link()
        self.connect(link)
        stopping = asyncio.create_task(self._stopping.wait())
        pumps = [
            asyncio.create_task(self._up(reader, up_writer, link)),
            asyncio.create_task(self._down(up_reader, writer, link)),
        ]
        await asyncio.wait([stopping, *pumps], return_when=asyncio.FIRST_COMPLETED)
        if link.is_dropped:
            await stopping
        for task in (stopping, *pumps):
            task.cancel()
        await asyncio.gather(stopping, *pumps, return_exceptions=True)
        for each in (writer, up_writer):
            each.transport.abort()
            with suppress(ConnectionError):
                await each.wait_closed()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        while chunk := await reader.read(CHUNK):
            if self.send(link, chunk):
                await _write(writer, chunk)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        while chunk := await reader.read(CHUNK):
            if self.receive(link, chunk):
                await _write(writer, chunk)


async def _write(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    writer.write(chunk)
    with suppress(ConnectionError):
        await writer.drain()


class CuttingProxy(Proxy):
    """Cuts a connection between a COMMIT and its response, so that the client cannot know what became of it.

    Args:
        server_url: of the PostgreSQL server.
        every: which COMMITs are cut.
        cuts: the maximum number of cuts.
    """

    def __init__(self, server_url: str, *, every: int, cuts: int) -> None:
        super().__init__(server_url)
        self._every = every
        self._left = cuts
        self._seen = 0
        self.made = 0

    def send(self, link: Link, chunk: bytes) -> bool:
        """Pass everything on, and choose the COMMITs to cut."""
        link.is_cut = link.is_cut or (chunk.endswith(COMMIT) and self._is_due())
        return True

    def receive(self, link: Link, chunk: bytes) -> bool:
        """Reset a chosen connection: the server has responded, so the COMMIT is done."""
        if link.is_cut:
            self.made += 1
            raise Cut
        return True

    def _is_due(self) -> bool:
        self._seen += 1
        if self._left and self._seen % self._every == 0:
            self._left -= 1
            return True
        return False


class DroppingProxy(Proxy):
    """Stops passing bytes on when a test says so, without closing anything."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self._links: list[Link] = []
        self._drops_new_links = False

    def drop(self, name: str) -> None:
        """Drop the present connections with this `application_name`. New ones work."""
        found = [link for link in self._links if link.name == name]
        assert found, f"no connection is named {name}"
        for link in found:
            link.is_dropped = True

    def drop_everything(self) -> None:
        """Drop all connections, present and future."""
        self._drops_new_links = True
        for link in list(self._links):
            link.is_dropped = True

    def connect(self, link: Link) -> None:
        """Remember the connection."""
        link.is_dropped = self._drops_new_links
        self._links.append(link)

    def send(self, link: Link, chunk: bytes) -> bool:
        """Learn the connection's name from its first message."""
        if not link.name and (found := NAME.search(chunk)):
            link.name = found[1].decode()
        return not link.is_dropped

    def receive(self, link: Link, chunk: bytes) -> bool:
        """Nothing passes once the connection is dropped."""
        return not link.is_dropped


P = TypeVar("P", bound=Proxy)


@contextmanager
def serving(proxy: P) -> Iterator[P]:
    """Run a proxy in its own thread."""
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ready)))
    thread.start()
    try:
        assert ready.wait(10)
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
