"""mv2: a Memvid capsule of the records, one searchable frame per record, at `mv2://{resource}/{id}`.

The capsule is built and verified as a whole file, in separate processes, before its first byte is sent. Its size is
limited by the format: if the records do not fit, the job fails and reports how many would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from wherry.errors import CapsuleFailed, ErrorCode, JobFailed, SnapshotStopped
from wherry.exports.formats.model import Format, Layout
from wherry.exports.snapshot import Batch
from wherry.memvid.frame import record_frames
from wherry.memvid.spool import spool_frames
from wherry.memvid.writer import WriterEvent, write_capsule
from wherry.waiting import with_ticks

TITLES = ("title", "name", "slug", "email", "id")
"""The title of a record's frame: the first of these fields that is exported."""

ADVICE = "Select fewer records or fields, or take another format."
LOOK_SECONDS = 0.2
READ_BYTES = 1 << 20


def encode(batches: Iterable[Batch], layout: Layout) -> Iterator[bytes]:
    """Build the capsule, then yield it in chunks.

    Raises:
        JobFailed: there are no records, they do not fit, or the capsule could not be written.
        SnapshotStopped: the export was stopped.
    """
    records = (dict(zip(layout.fields, row, strict=True)) for batch in batches for row in batch)
    first = next(records, None)
    if first is None:
        raise JobFailed(ErrorCode.EMPTY_FILE, "No records match the selection, and a capsule cannot be empty")
    capsule = layout.workspace / "records.mv2"
    # In an event loop of this thread, as this generator must block.
    asyncio.run(_write(chain([first], records), capsule, layout))
    with capsule.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


async def _write(records: Iterable[dict[str, Any]], capsule: Path, layout: Layout) -> None:
    def report(event: WriterEvent) -> None:
        layout.watch.share = event.progress

    async def look() -> None:
        if layout.watch.stopping.is_set():
            raise SnapshotStopped

    layout.watch.share = 0.0
    title = next(field for field in TITLES if field in layout.fields)
    frames = record_frames(layout.resource.name, title, records)
    spool, workspace = layout.workspace / "frames", layout.workspace / "writer"
    count = await with_ticks(spool_frames(frames, spool), look, seconds=LOOK_SECONDS)
    writing = write_capsule(spool, count, capsule, workspace=workspace, on_progress=report, advice=lambda fits: ADVICE)
    try:
        await with_ticks(writing, look, seconds=LOOK_SECONDS)
    except CapsuleFailed as error:
        raise JobFailed.by_capsule(error) from error


MV2 = Format(
    name="mv2", extension="mv2", content_type="application/octet-stream", encode=encode, needed_fields=frozenset({"id"})
)
