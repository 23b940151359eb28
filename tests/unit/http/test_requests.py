"""What becomes of a request whose client goes away."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Litestar, post
from litestar.params import JSONBody

from wherry.http.framework import litestar_options


@post("/api/body")
async def body(data: JSONBody[dict[str, Any]]) -> None:
    return


async def test_a_client_that_goes_away_is_noted_but_is_no_failure() -> None:
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/body",
        "raw_path": b"/api/body",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"content-type", b"application/json")],
        "client": ("198.51.100.7", 50000),
        "server": ("test", 80),
    }
    events = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        sent.append(message)

    with structlog.testing.capture_logs() as logged:
        await Litestar([body], **litestar_options())(scope, receive, send)  # type: ignore[arg-type]

    assert [entry["log_level"] for entry in logged] == ["info"]
    assert msgspec.json.decode(sent[1]["body"])["status"] == 500
