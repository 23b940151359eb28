"""json: one array of all records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wherry.exports.formats.model import Format, Layout
from wherry.exports.formats.records import RecordEncoder
from wherry.exports.snapshot import Batch


def encode(batches: Iterable[Batch], layout: Layout) -> Iterator[bytes]:
    """The array in chunks; `[]` where there is no record."""
    opening = b"["
    for items in map(RecordEncoder(layout.fields).items, batches):
        yield opening
        yield items
        opening = b","
    yield b"[]" if opening == b"[" else b"]"


JSON = Format(name="json", extension="json", content_type="application/json", encode=encode)
