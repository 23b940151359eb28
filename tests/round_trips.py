"""A proxy in front of PostgreSQL that counts how often its clients wait for the server.

It reads what clients send (PostgreSQL, "Frontend/Backend Protocol"): each `Query` and each `Sync` is one round trip.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

PROTOCOL = 3
CHUNK = 1 << 16


class CountingProxy(socketserver.ThreadingTCPServer):
    """Listens on loopback; use `url` instead of the server's."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        parts = urlsplit(server_url)
        self.upstream = parts.hostname, parts.port
        self.counts: Counter[str] = Counter()
        """The round trips, by `application_name`."""
        user = f"{parts.username}@" if parts.username else ""
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.server_address[1]}"))


class _Connection(socketserver.BaseRequestHandler):
    server: CountingProxy

    def handle(self) -> None:
        messages = _Messages()
        with socket.create_connection(self.server.upstream) as upstream, suppress(OSError):
            threading.Thread(target=_copy, args=(upstream, self.request), daemon=True).start()
            while data := self.request.recv(CHUNK):
                trips = messages.round_trips(data)
                self.server.counts[messages.application] += trips
                upstream.sendall(data)


class _Messages:
    """What one client sends."""

    def __init__(self) -> None:
        self.application = ""
        self._started = False
        self._data = b""

    def round_trips(self, data: bytes) -> int:
        """How many round trips the messages that end in this data begin."""
        self._data += data
        count = 0
        while message := self._next():
            if self._started:
                count += message[:1] in (b"Q", b"S")
            else:
                self._start(message)
        return count

    def _next(self) -> bytes:
        """The next complete message without its length; empty if there is none."""
        kind = 1 if self._started else 0  # the first messages have no type
        if len(self._data) < kind + 4:
            return b""
        end = kind + struct.unpack_from("!i", self._data, kind)[0]
        if len(self._data) < end:
            return b""
        message, self._data = self._data[:kind] + self._data[kind + 4 : end], self._data[end:]
        return message

    def _start(self, message: bytes) -> None:
        (version,), fields = struct.unpack_from("!h", message), message[4:].split(b"\0")
        if version == PROTOCOL:  # else it asks for encryption first
            self._started = True
            self.application = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"application_name", b"").decode()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def counting(server_url: str) -> Iterator[CountingProxy]:
    """A proxy for as long as the context lasts."""
    with CountingProxy(server_url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
