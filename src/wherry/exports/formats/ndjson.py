"""ndjson: one record a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wherry.exports.formats.model import Format, Layout
from wherry.exports.formats.records import RecordEncoder
from wherry.exports.snapshot import Batch


def encode(batches: Iterable[Batch], layout: Layout) -> Iterator[bytes]:
    """Lines, a chunk a batch; nothing at all where there is no record."""
    return map(RecordEncoder(layout.fields).lines, batches)


NDJSON = Format(name="ndjson", extension="ndjson", content_type="application/x-ndjson", encode=encode)
