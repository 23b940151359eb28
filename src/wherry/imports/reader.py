"""Splits a stream of bytes into records, in the way of its format.

In: chunks of a decompressed source, from a checkpoint on. Out: `RawRecord(index, offset, data, size)`. Splitters are
plain objects that are fed, so that they can work in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from wherry.imports.arrays import ArraySplitter
from wherry.imports.lines import LineSplitter
from wherry.imports.models import Format, Place, RawRecord


class Splitter(Protocol):
    """Cuts what it is fed into records."""

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk."""
        ...

    def finish(self) -> Iterator[RawRecord]:
        """The record that the end of the text ends."""
        ...


def make_splitter(format: Format, place: Place, max_bytes: int) -> Splitter:
    """The splitter of a format, to be fed from `place.offset` on."""
    if format is Format.NDJSON:
        return LineSplitter(place, max_bytes)
    return ArraySplitter(place, max_bytes)
