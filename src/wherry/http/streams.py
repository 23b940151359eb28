"""Server-sent event helpers (WHATWG HTML, "Server-sent events").

Lines end in LF: the standard allows CRLF, too, but the GitNexus client splits the stream on two LF.
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
    """The id of the last event that a client saw before it connected again; None where it has seen none.

    Raises:
        Invalid: it is none of these streams' ids.
    """
    value = request.headers.get("Last-Event-ID", "").strip()
    if not value:
        return None
    event_id = whole_number(value)
    if event_id is None:
        raise Invalid("Last-Event-ID must be the id of an event of this stream", field="Last-Event-ID")
    return event_id


def sse_event(name: str, event_id: int, data: object) -> ServerSentEventMessage:
    """One event; `data` as JSON on one line."""
    return ServerSentEventMessage(data=msgspec.json.encode(data).decode(), event=name, id=event_id, sep=_LINE_END)


def keep_alive() -> ServerSentEventMessage:
    """A comment: it tells proxies and clients that the stream lives."""
    return ServerSentEventMessage(data=None, comment="still here", sep=_LINE_END)


def event_stream(messages: AsyncIterator[ServerSentEventMessage]) -> ServerSentEvent:
    """The response that sends them."""
    # The class is typed for its own union of inputs; messages are the plainest member of it.
    content: Any = messages
    return ServerSentEvent(content, headers=NO_BUFFER)
