"""Server-sent event helpers (WHATWG HTML, "Server-sent events").

Lines end with LF. The standard also allows CRLF, but the GitNexus client splits the stream at two LFs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from wherry.errors import Invalid
from wherry.texts import whole_number

_LINE_END = "\n"
NO_BUFFER = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def last_event_id(request: Request[Any, Any, Any]) -> int | None:
    """The id of the last event that a client received before it reconnected, or None if there is none.

    Raises:
        Invalid: it is not an event id.
    """
    value = request.headers.get("Last-Event-ID", "").strip()
    if not value:
        return None
    event_id = whole_number(value)
    if event_id is None:
        raise Invalid("Last-Event-ID must be the id of an event of this stream", field="Last-Event-ID")
    return event_id


def sse_event(name: str, event_id: int, data: object) -> ServerSentEventMessage:
    """One event, with its data as JSON on one line."""
    return ServerSentEventMessage(data=msgspec.json.encode(data).decode(), event=name, id=event_id, sep=_LINE_END)


def keep_alive() -> ServerSentEventMessage:
    """A comment, which tells proxies and clients that the connection is alive."""
    return ServerSentEventMessage(data=None, comment="still here", sep=_LINE_END)


def event_stream(messages: AsyncIterator[ServerSentEventMessage]) -> ServerSentEvent:
    """The response that streams these messages."""
    # mypy does not recognise that this type is a member of the parameter's union.
    content: Any = messages
    return ServerSentEvent(content, headers=NO_BUFFER)
