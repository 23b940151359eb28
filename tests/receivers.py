"""A receiver of webhooks on this machine: a real HTTP server, whose responses a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

WEBHOOK_SECRET = "whsec_" + "d2hlcnJ5" * 4
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Received:
    """A request, and the status that it was answered with; None if the response was not completed."""

    headers: dict[str, str]
    body: bytes
    status: int | None

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self) -> dict[str, Any]:
        """The body, if the package of Standard Webhooks accepts the signature."""
        return dict(Webhook(WEBHOOK_SECRET).verify(self.body, self.headers))


class Receiver(ThreadingHTTPServer):
    """Records every request, and answers it with `status`.

    Attributes:
        location: the URL of redirects.
        hangs: whether it sends nothing until the test ends.
        drips: whether it sends a byte of the response's head at a time, without end.
    """

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.status = 204
        self.location = ""
        self.hangs = False
        self.drips = False
        self.connections = 0
        self.leave = threading.Event()
        self.received: list[Received] = []
        self.changed = threading.Condition()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=secret"

    @property
    def accepted(self) -> list[str]:
        """The ids of the events that were answered with 2xx."""
        return [each.id for each in self.received if each.status is not None and 200 <= each.status < 300]

    def requests_for(self, event_id: str) -> list[Received]:
        """The requests for an event so far."""
        return [each for each in self.received if each.id == event_id]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so; it is asked after each request."""
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_SECONDS), self.received

    def record(self, received: Received) -> None:
        with self.changed:
            self.received.append(received)
            self.changed.notify_all()

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.status
        completes = not (self.server.hangs or self.server.drips)
        self.server.record(Received(headers, body, status if completes else None))
        if completes:
            self._answer(status)
        elif self.server.hangs:
            self.server.leave.wait(WAIT_SECONDS)
        else:
            self._drip()
        self.close_connection = True

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _drip(self) -> None:
        try:
            self.wfile.write(b"HTTP/1.1 204 No Content\r\nX-Slow: ")
            while not self.server.leave.wait(0.02):
                self.wfile.write(b"x")
        except ConnectionError:
            return

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def receiving(**behaviour: Any) -> Iterator[Receiver]:
    """A running receiver; the arguments are attributes of it."""
    with Receiver() as receiver:
        for name, value in behaviour.items():
            setattr(receiver, name, value)
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.leave.set()
            receiver.shutdown()
            thread.join()
