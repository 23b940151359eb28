"""A TCP proxy in front of PostgreSQL that can cut a connection between a COMMIT and its response.

In: connections of wherry's processes. Out: the same bytes on to the server and back; but for every `every`-th COMMIT,
the server's answer is thrown away and the client's connection is reset, so that it cannot know what became of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

COMMIT = b"COMMIT\x00"
CHUNK = 1 << 16


class CuttingProxy:
    """Listens on loopback; use `url` instead of the server's.

    Args:
        server_url: of the PostgreSQL server.
        every: which COMMITs are cut.
        cuts: the maximum number of cuts.
    """

    def __init__(self, server_url: str, *, every: int, cuts: int) -> None:
        self._server = urlsplit(server_url)
        self._every = every
        self._left = cuts
        self._seen = 0
        self.made = 0
        self.url = ""

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Run until told to stop."""
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = f"{self._server.username}@" if self._server.username else ""
        self.url = urlunsplit(self._server._replace(netloc=f"{user}127.0.0.1:{port}"))
        ready.set()
        async with server:
            await stop.wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        cut = asyncio.Event()
        pumps = [
            asyncio.create_task(self._up(reader, up_writer, cut)),
            asyncio.create_task(self._down(up_reader, writer, cut)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        writer.transport.abort()
        up_writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while chunk := await reader.read(CHUNK):
            if chunk.endswith(COMMIT) and self._is_due():
                cut.set()
            writer.write(chunk)
            with suppress(ConnectionError):
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while chunk := await reader.read(CHUNK):
            # The server has answered, so the COMMIT is done; the client will never hear of it.
            if cut.is_set():
                self.made += 1
                return
            writer.write(chunk)
            with suppress(ConnectionError):
                await writer.drain()

    def _is_due(self) -> bool:
        self._seen += 1
        if self._left and self._seen % self._every == 0:
            self._left -= 1
            return True
        return False


@contextmanager
def cutting(server_url: str, *, every: int, cuts: int) -> Iterator[CuttingProxy]:
    """A proxy in its own thread."""
    proxy = CuttingProxy(server_url, every=every, cuts=cuts)
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(ready, stop)))
    thread.start()
    try:
        assert ready.wait(10)
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.run_until_complete(_drain(loop))
        loop.close()


async def _drain(loop: asyncio.AbstractEventLoop) -> None:
    tasks = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
