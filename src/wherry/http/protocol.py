"""How much, and how long, one connection may ask of the process before a route has seen any of it.

In: a connection. Out: uvicorn's handling of it, ended if the client sends a head without end, or keeps the process
waiting: for a head, with a body that hardly moves, or with an answer that it does not take. A slow line is left alone:
uploads, downloads and event streams last as long as they like. No client gets more than its share of the connections.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import struct
import sys
import termios
from ipaddress import ip_network

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from wherry.errors import (
    ConcurrentLimit,
    HeadTooLarge,
    Malformed,
    Refused,
    RequestError,
    RequestTimeout,
    Unavailable,
)
from wherry.http.problems import MEDIA_TYPE, problem_of
from wherry.networks import network_of, parse_address, plain_address

MAX_HEAD_BYTES = 1 << 16
FIELD_BYTES = 32
"""What a field counts besides its bytes, as each takes memory of its own (RFC 9113, section 6.5.2)."""

STEP_BYTES = 1 << 14
"""A head is parsed in such steps, and looked at after each."""

MAX_CONNECTIONS = 1024
OTHER_FILES = 64  # sockets of the database and of the storage, the log
LINGER_SECONDS = 2


def max_connections() -> int:
    """As many as leave each of them a file of its own, of those that the process may open: an upload writes one."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, (files - OTHER_FILES) // 2))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. Give it to `uvicorn.Config` as `http`, with `ws="none"`."""

    max_connections = max_connections()

    max_share = 4
    """One client, by its address or IPv6 network, may have a part of the connections: one in so many."""

    head_seconds = 30.0
    """From the connection, or the end of the answer before, to the end of a head. Idle ones uvicorn ends sooner."""

    stall_seconds = 60.0
    """How long a client may take no byte of an answer, or send none of a body at its beginning."""

    body_rate = 1024
    """Bytes per second that a client must send of a body, on average over `stall_seconds`, while it is waited for."""

    check_seconds = 5.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = plain_address(self.client[0]), self.client[1]
        self._refused = False
        self._in_message = False
        self._moved_on = False
        self._head_bytes = 0
        self._unsent = 0
        self._since = self._checked = self.loop.time()
        self._ahead = 0.0
        self._next_check = self.loop.call_later(self.check_seconds, self._check)
        self.network = self._network()
        if len(self.connections) > self.max_connections:
            self._turn_away(Unavailable("too many connections; try again"))
        elif self.network is not None and self._connections_of_network() > max(
            1, self.max_connections // self.max_share
        ):
            self._turn_away(ConcurrentLimit("too many connections from your address; close some"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        step = len(data) if self._in_message else STEP_BYTES
        for start in range(0, len(data), step):
            if self._refused or self.transport.is_closing():
                return
            piece = data[start : start + step]
            self._moved_on = False
            super().data_received(piece)
            if self._moved_on:
                self._head_bytes = 0
                self._since = self.loop.time()
                continue
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                limit = f"the URL and the header fields of a request may have at most {MAX_HEAD_BYTES} bytes"
                self._refuse(HeadTooLarge(limit))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += FIELD_BYTES

    def on_headers_complete(self) -> None:
        self._in_message = self._moved_on = True
        self._ahead = self._most_ahead
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved_on = True
        self._ahead += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; the message is uvicorn's."""
        self._refuse(Malformed("the request is not valid HTTP/1.1"))

    @property
    def _answering(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # before the first request there is no cycle

    def _check(self) -> None:
        now, before = self.loop.time(), self._unsent
        self._unsent = _unsent(self.transport)
        patience = self._patience()
        self._next_check = self.loop.call_later(self.check_seconds, self._check)
        if patience is None or self._unsent != before:
            self._since = now
        elif now - self._since > patience:
            self.transport.abort()
        if self._awaits_body:
            self._ahead = min(self._ahead, self._most_ahead) - (now - self._checked) * self.body_rate
            if self._ahead < 0 and not self._refused:
                self._refuse_slow_body()
        self._checked = now

    @property
    def _most_ahead(self) -> float:
        """How many bytes of a body may have come early, and make up for a line that falls silent later."""
        return self.stall_seconds * self.body_rate

    @property
    def _awaits_body(self) -> bool:
        """Whether the client's next move is to send some of a body: nothing of it is left for the application."""
        return self._in_message and not (self._answering and self.cycle.body)

    def _patience(self) -> float | None:
        """How long the client may take for its next move; None if that is not the client's, or a body's."""
        if self._unsent:
            return self.stall_seconds
        return None if self._in_message or self._answering else self.head_seconds

    def _network(self) -> str | None:
        """What shares connections with this one; None for a trusted proxy, which has those of many clients."""
        if self.client is None:
            return None
        return None if self._is_trusted(self.client[0]) else network_of(self.client[0])

    def _is_trusted(self, text: str) -> bool:
        address = parse_address(text)
        trusted = self.config.forwarded_allow_ips if self.config.proxy_headers else []
        return address is not None and any(address in ip_network(each, strict=False) for each in trusted or ())

    def _connections_of_network(self) -> int:
        return sum(getattr(each, "network", None) == self.network for each in self.connections)

    def _turn_away(self, error: RequestError) -> None:
        self._answer(error)
        self.transport.close()

    def _refuse_slow_body(self) -> None:
        if self._answering:
            detail = f"the body arrived at less than {self.body_rate} bytes per second; send the request again"
            self._refuse(RequestTimeout(detail))
        else:
            self.transport.abort()

    def _refuse(self, error: Refused) -> None:
        """Answer the client, and end its connection; if another answer has begun, only end it."""
        if self._answering:
            if self.cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._answer(error)
        # The client, which still sends, would lose the answer if the connection were closed (RFC 9112, section 9.6).
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _answer(self, error: RequestError) -> None:
        body = msgspec.json.encode(problem_of(error, self._path))
        fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items()).encode()
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.transport.write(STATUS_LINE[error.status] + head + fields + b"\r\n" + body)

    @property
    def _path(self) -> str:
        """What is known of the path: under `/api` and `/v1` problems have more members."""
        return getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes of answers that the client has not taken yet, here and, on Linux, in the kernel (tcp(7), SIOCOUTQ)."""
    waiting = transport.get_write_buffer_size()
    if waiting and sys.platform == "linux":
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        waiting += struct.unpack("i", queued)[0]
    return waiting
