"""Limits what a connection can cost before its request reaches a route.

A connection is closed if its headers are too large, or if the client is too slow to send headers, to send a body, or to
read a response. Slow networks are not affected: uploads, downloads and event streams may take any time as long as they
progress. No client gets more than its share of the connections.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import struct
import sys
import termios
from collections import Counter
from ipaddress import ip_network
from weakref import WeakKeyDictionary

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

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
"""Added to the size of each header, to account for the memory that it uses (RFC 9113, section 6.5.2)."""

STEP_BYTES = 1 << 14
"""Headers are parsed in steps of this size, and checked after each."""

MAX_CONNECTIONS = 4096
OTHER_FILES = 64  # database and storage sockets, and the log
MAX_FILES = 2 * MAX_CONNECTIONS + OTHER_FILES
"""Enough for `MAX_CONNECTIONS` if each also writes a file, as uploads do."""

LINGER_SECONDS = 2


def max_connections() -> int:
    """How many connections the process's hard limit on open files allows. `wherry api` raises its soft limit to it."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, (files - OTHER_FILES) // 2))


_by_network: WeakKeyDictionary[ServerState, Counter[str]] = WeakKeyDictionary()
"""How many connections each server has, by network."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: `uvicorn.Config(http=BoundedProtocol, ws="none")`."""

    max_connections = max_connections()

    max_share = 4
    """A client (an IPv4 address or an IPv6 network) may use at most one in this many connections."""

    head_seconds = 30.0
    """Time from the connection, or from the last response, to the end of the headers. uvicorn closes idle connections
    sooner."""

    stall_seconds = 60.0
    """How long a client may go without reading any of a response, or before it sends the first byte of a body."""

    body_rate = 1024
    """Minimum bytes per second of a body, on average over `stall_seconds`, while the server waits for the client."""

    check_seconds = 5.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.client = plain_address(self.client[0]), self.client[1]
        self._refused = False
        self._in_message = False
        self._past_head = False
        self._head_bytes = 0
        self._unsent = 0
        self._since = self._checked = self.loop.time()
        self._credit = 0.0
        self._next_check = self.loop.call_later(self.check_seconds, self._check)
        self._network = self._find_network()
        self._by_network = _by_network.setdefault(self.server_state, Counter())
        if self._network is not None:
            self._by_network[self._network] += 1
        if len(self.connections) > self.max_connections:
            self._turn_away(Unavailable("too many connections; try again"))
        elif self._network is not None and self._by_network[self._network] > self._share:
            self._turn_away(ConcurrentLimit("too many connections from your address; close some"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_check.cancel()
        if self._network is not None:
            self._by_network[self._network] -= 1
            if not self._by_network[self._network]:
                del self._by_network[self._network]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        step = len(data) if self._in_message else STEP_BYTES
        for start in range(0, len(data), step):
            if self._refused or self.transport.is_closing():
                return
            piece = data[start : start + step]
            self._past_head = False
            super().data_received(piece)
            if self._past_head:
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
        self._in_message = self._past_head = True
        self._credit = self._max_credit
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._past_head = True
        self._credit += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are not HTTP. Overrides uvicorn's method."""
        self._refuse(Malformed("the request is not valid HTTP/1.1"))

    @property
    def _responding(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

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
            self._credit = min(self._credit, self._max_credit) - (now - self._checked) * self.body_rate
            if self._credit < 0 and not self._refused:
                self._refuse_slow_body()
        self._checked = now

    @property
    def _max_credit(self) -> float:
        """How many bytes of a body may count in advance, in case the network stalls later."""
        return self.stall_seconds * self.body_rate

    @property
    def _awaits_body(self) -> bool:
        """Whether we are waiting for more of a body: the application has read everything that has arrived."""
        return self._in_message and not (self._responding and self.cycle.body)

    def _patience(self) -> float | None:
        """How long the client may take for its next step; None if we are not waiting, or are waiting for a body."""
        if self._unsent:
            return self.stall_seconds
        return None if self._in_message or self._responding else self.head_seconds

    @property
    def _share(self) -> int:
        return max(1, self.max_connections // self.max_share)

    def _find_network(self) -> str | None:
        """The client that this connection counts against, or None for a trusted proxy, which serves many clients."""
        if self.client is None:
            return None
        return None if self._is_trusted(self.client[0]) else network_of(self.client[0])

    def _is_trusted(self, text: str) -> bool:
        address = parse_address(text)
        trusted = self.config.forwarded_allow_ips if self.config.proxy_headers else []
        return address is not None and any(address in ip_network(each, strict=False) for each in trusted or ())

    def _turn_away(self, error: RequestError) -> None:
        self._respond(error)
        self.transport.close()

    def _refuse_slow_body(self) -> None:
        if self._responding:
            detail = f"the body arrived at less than {self.body_rate} bytes per second; send the request again"
            self._refuse(RequestTimeout(detail))
        else:
            self.transport.abort()

    def _refuse(self, error: Refused) -> None:
        """Send an error response and close the connection. If a response has already started, only close it."""
        if self._responding:
            if self.cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._respond(error)
        # If we closed the connection while the client is sending, it would lose the response (RFC 9112, section 9.6).
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _respond(self, error: RequestError) -> None:
        body = msgspec.json.encode(problem_of(error, self._path))
        fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items()).encode()
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.transport.write(STATUS_LINE[error.status] + head + fields + b"\r\n" + body)

    @property
    def _path(self) -> str:
        """The path as far as it was parsed; a problem under `/api` or `/v1` has more members."""
        return getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes of responses that the client has not received yet, in our buffer and, on Linux, in the kernel (tcp(7),
    SIOCOUTQ)."""
    waiting = transport.get_write_buffer_size()
    if waiting and sys.platform == "linux":
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        waiting += struct.unpack("i", queued)[0]
    return waiting
