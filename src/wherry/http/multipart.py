"""Reads `multipart/form-data` (RFC 7578) as a stream, so that a file goes straight into storage.

A part is the file if it has a file name or is called `file`. All other parts are fields, which are kept in memory and
may have at most 64 KiB.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from wherry.errors import Invalid, Malformed

FILE = "file"
MAX_FIELD_BYTES = 64 << 10
MAX_PARTS = 64

Kept = TypeVar("Kept")
Keep = Callable[[MultipartSegment, AsyncIterable[bytes]], Awaitable[Kept]]
_Event: TypeAlias = Any  # a MultipartSegment, then bytes, then None; the library does not declare it


async def read_form(
    chunks: AsyncIterable[bytes], boundary: str | None, keep: Keep[Kept]
) -> tuple[dict[str, list[str]], Kept | None]:
    """Read a form: all values of each field, and what `keep` returned for the file, if there is one.

    `keep` is called with the part and the bytes of the file, and stores it.

    Raises:
        Malformed: it is not a multipart form, or is truncated.
        Invalid: a field is too long, or there is more than one file.
    """
    if not boundary:
        raise Malformed("the Content-Type multipart/form-data needs a boundary")
    fields: dict[str, list[str]] = {}
    file: Kept | None = None
    async with aclosing(_events(chunks, boundary)) as events:
        async for event in events:
            assert isinstance(event, MultipartSegment), "a segment starts with its headers"
            if event.filename is None and event.name != FILE:
                fields.setdefault(event.name, []).append(await _small(event, _body(events)))
            elif file is not None:
                raise Invalid("file must be given once", field=FILE)
            else:
                file = await keep(event, _body(events))
    return fields, file


async def _events(chunks: AsyncIterable[bytes], boundary: str) -> AsyncGenerator[_Event, None]:
    try:
        parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
        async for chunk in chunks:
            if not chunk:
                continue
            for event in parser.parse(chunk):
                yield event
        parser.close()
    except MultipartError as error:
        raise Malformed("the multipart form is invalid or truncated") from error


async def _body(events: AsyncGenerator[_Event, None]) -> AsyncGenerator[bytes, None]:
    """The bytes of the current segment, which ends with None."""
    async for event in events:
        if event is None:
            return
        assert not isinstance(event, MultipartSegment), "segments do not nest"
        yield bytes(event)


async def _small(segment: MultipartSegment, body: AsyncIterable[bytes]) -> str:
    value = bytearray()
    async for chunk in body:
        value += chunk
        if len(value) > MAX_FIELD_BYTES:
            raise Invalid(f"{segment.name} must have at most {MAX_FIELD_BYTES} bytes", field=segment.name)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{segment.name} must be UTF-8", field=segment.name) from error
