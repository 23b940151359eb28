"""How much, and how long, one connection may ask of the process before a route has seen any of it.

In: a connection. Out: uvicorn's handling of it, ended where the client sends a head without end, or keeps the process
waiting: for a head, for the next bytes of a body, or with an answer that it does not take. Whatever moves on, however
slowly, is left alone: uploads, downloads and event streams last as long as they like.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import struct
import sys
import termios

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from wherry.http.problems import MEDIA_TYPE, Problem, phrase

MAX_HEAD_BYTES = 1 << 16
FIELD_BYTES = 32
"""What a field counts besides its bytes, as each takes memory of its own (RFC 9113, section 6.5.2)."""

STEP_BYTES = 1 << 14
"""A head is parsed in such steps, and looked at after each."""

MAX_CONNECTIONS = 1024
OTHER_FILES = 64  # sockets of the database and of the storage, the log
RETRY_SECONDS = 5
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

    head_seconds = 30.0
    """From the connection, or the end of the answer before, to the end of a head. Idle ones uvicorn ends sooner."""

    stall_seconds = 60.0
    """How long a client may send no byte of a body that is waited for, or take no byte of an answer."""

    check_seconds = 5.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._refused = False
        self._in_message = False
        self._moved_on = False
        self._head_bytes = 0
        self._unsent = 0
        self._since = self.loop.time()
        self._next_check = self.loop.call_later(self.check_seconds, self._check)
        if len(self.connections) > self.max_connections:
            self._answer(503, "UNAVAILABLE", "too many connections; try again", b"retry-after: %d\r\n" % RETRY_SECONDS)
            transport.close()

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
                self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += FIELD_BYTES

    def on_headers_complete(self) -> None:
        self._in_message = self._moved_on = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def _answering(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # before the first request there is no cycle

    def _check(self) -> None:
        now, before = self.loop.time(), self._unsent
        self._unsent = _unsent(self.transport)
        patience = self._patience()
        if patience is None or self._unsent != before:
            self._since = now
        elif now - self._since > patience:
            self.transport.abort()
            return
        self._next_check = self.loop.call_later(self.check_seconds, self._check)

    def _patience(self) -> float | None:
        """How long the client may take for its next move; None where the next move is not the client's."""
        if self._unsent:
            return self.stall_seconds
        if self._in_message:
            return None if self._answering and self.cycle.body else self.stall_seconds
        return None if self._answering else self.head_seconds

    def _refuse_head(self) -> None:
        if self._answering:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        limit = f"the address and the header fields of a request may have {MAX_HEAD_BYTES} bytes"
        self._answer(431, "HEAD_TOO_LARGE", limit)
        # The client, which still sends, would lose the answer if the connection were closed (RFC 9112, section 9.6).
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _answer(self, status: int, code: str, detail: str, fields: bytes = b"") -> None:
        problem = Problem(type="about:blank", title=phrase(status), status=status, detail=detail, code=code)
        body = msgspec.json.encode(problem)
        head = b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n" % (MEDIA_TYPE.encode(), len(body))
        self.transport.write(STATUS_LINE[status] + head + fields + b"\r\n" + body)


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes of answers that the client has not taken yet, here and, on Linux, in the kernel (tcp(7), SIOCOUTQ)."""
    waiting = transport.get_write_buffer_size()
    if waiting and sys.platform == "linux":
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        waiting += struct.unpack("i", queued)[0]
    return waiting
