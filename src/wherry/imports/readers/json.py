"""json: an array of objects, or a document that contains one; and how json is distinguished from ndjson."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from wherry.errors import ErrorCode, JobFailed
from wherry.imports.readers.array_paths import HEAD_BYTES, suggestion
from wherry.imports.readers.arrays import ArraySplitter
from wherry.imports.readers.model import Opening, Reader, RecordsFormat
from wherry.imports.readers.ndjson import NDJSON
from wherry.imports.readers.nested import NestedSplitter
from wherry.imports.readers.records import JsonParser
from wherry.imports.source import SourceText


async def open_json(opening: Opening) -> Reader:
    """Open a source of one array, or of a document with records at a path.

    Raises:
        JobFailed: the document is an object, and there is no path.
    """
    place, records_at = opening.place, opening.options.records_at
    parser = JsonParser(stops_at_broken_syntax=True)
    if records_at is not None:
        return Reader(opening.source.open(), NestedSplitter(records_at, place, opening.max_bytes), parser)
    if place.index == 0:
        await _refuse_object(opening.source)
    return Reader(opening.source.open(place.offset), ArraySplitter(place, opening.max_bytes), parser)


async def _refuse_object(source: SourceText) -> None:
    head = b""
    async with aclosing(source.open()) as chunks:
        async for chunk in chunks:
            head = (head + chunk).lstrip()[:HEAD_BYTES]
            if len(head) == HEAD_BYTES or (head and not head.startswith(b"{")):
                break
    if head.startswith(b"{"):
        hint = await asyncio.to_thread(suggestion, head)
        message = f"The file is an object, not an array of records; say where in it they are with recordsAt. {hint}"
        raise JobFailed(ErrorCode.PARSE_ERROR, message)


JSON = RecordsFormat(
    name="json",
    content_type="application/json",
    extensions=(".json",),
    content_types=("application/json", "text/json"),
    open=open_json,
    own_options=("recordsAt",),
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
