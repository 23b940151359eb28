"""json: one array of objects, and how it is told from ndjson."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from wherry.imports.readers.arrays import ArraySplitter
from wherry.imports.readers.model import Opening, Reader, RecordsFormat
from wherry.imports.readers.ndjson import NDJSON
from wherry.imports.readers.records import JsonParser


async def open_json(opening: Opening) -> Reader:
    """Open a source of one array."""
    place = opening.place
    parser = JsonParser(stops_at_broken_syntax=True)
    return Reader(opening.source.open(place.offset), ArraySplitter(place, opening.max_bytes), parser)


JSON = RecordsFormat(
    name="json",
    content_type="application/json",
    extensions=(".json",),
    content_types=("application/json", "text/json"),
    open=open_json,
    is_array=True,
)

MAX_FIRST_LINE_BYTES = 1 << 20
"""A file with a longer first line is assumed to be json."""


async def detect_format(text: AsyncIterator[bytes]) -> str:
    """Decide between ndjson and json by the beginning of a text without a byte-order mark.

    It is ndjson if the first line is a complete object and more lines follow. No more is read than necessary.
    """
    head = b""
    async for chunk in text:
        head = (head + chunk).lstrip()
        if head and not head.startswith(b"{"):
            return JSON.name
        first, _, rest = head.partition(b"\n")
        if rest.strip():
            return NDJSON.name if _is_json(first) else JSON.name
        if len(head) > MAX_FIRST_LINE_BYTES:
            return JSON.name
    return JSON.name


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
