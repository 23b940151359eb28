"""Reads `multipart/form-data` (RFC 7578) as it comes, without a copy of the file anywhere but where it is kept.

In: the chunks of a request. Out: its small fields, and what became of its one file. A part is the file when it has a
file name, or when it is called `file`; every other part is held in memory, and so may be 64 KiB at the most.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from wherry.errors import Invalid, Malformed

FILE = "file"
MAX_FIELD_BYTES = 64 << 10
MAX_PARTS = 64

Kept = TypeVar("Kept")
Keep = Callable[[MultipartSegment, AsyncIterable[bytes]], Awaitable[Kept]]
_Event: TypeAlias = Any  # a MultipartSegment, then bytes, then None; the library has no types


@dataclass
class Form(Generic[Kept]):
    """A form that was read to its end: each field with every value that it was given."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    file: Kept | None = None


async def read_form(chunks: AsyncIterable[bytes], boundary: str | None, keep: Keep[Kept]) -> Form[Kept]:
    """Read a form; `keep` is given the file's part and its bytes, and says what became of it.

    Raises:
        Malformed: it is no multipart form, or ends too early.
        Invalid: a field is too long, or there is more than one file.
    """
    if not boundary:
        raise Malformed("the Content-Type multipart/form-data needs a boundary")
    form: Form[Kept] = Form()
    async with aclosing(_events(chunks, boundary)) as events:
        async for event in events:
            assert isinstance(event, MultipartSegment), "a segment begins with its headers"
            if event.filename is None and event.name != FILE:
                form.fields.setdefault(event.name, []).append(await _small(event, _body(events)))
            elif form.file is not None:
                raise Invalid("file must be given once", field=FILE)
            else:
                form.file = await keep(event, _body(events))
    return form


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
    """The bytes of the segment at hand: everything before its closing None."""
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
