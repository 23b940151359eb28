"""mv2: a Memvid capsule of the records, one searchable frame each, at `mv2://{resource}/{id}`.

A capsule is a file that its writer builds whole, in processes of its own, so nothing leaves before it is complete and
verified. How many records fit is the format's limit: more end the job, and it says how many would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from wherry.capsules.frame import record_frames
from wherry.capsules.writer import WriterEvent, write_capsule
from wherry.errors import ErrorCode, JobFailed
from wherry.exports.formats.model import Format, Layout
from wherry.exports.snapshot import Batch, Stopped
from wherry.waiting import with_ticks

TITLES = ("title", "name", "slug", "email", "id")
"""What a reader is shown of a record: the first of these that it has."""

ADVICE = "Select fewer records or fields, or take another format."
LOOK_SECONDS = 0.2
READ_BYTES = 1 << 20


def encode(batches: Iterable[Batch], layout: Layout) -> Iterator[bytes]:
    """The capsule, in chunks, once it is complete.

    Raises:
        JobFailed: there is no record, the records do not fit, or no capsule could be written.
        Stopped: the export is to end.
    """
    records = (dict(zip(layout.fields, row, strict=True)) for batch in batches for row in batch)
    first = next(records, None)
    if first is None:
        raise JobFailed(ErrorCode.EMPTY_FILE, "No record was selected: there is nothing to make a capsule of")
    capsule = layout.workspace / "records.mv2"
    # A loop of this thread's own: the worker's is busy with its heartbeat, and this generator must block.
    asyncio.run(_write(chain([first], records), capsule, layout))
    with capsule.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


async def _write(records: Iterable[dict[str, Any]], capsule: Path, layout: Layout) -> None:
    def report(event: WriterEvent) -> None:
        layout.watch.share = event.progress

    async def look() -> None:
        if layout.watch.stopping.is_set():
            raise Stopped

    layout.watch.share = 0.0
    title = next(field for field in TITLES if field in layout.fields)
    frames = record_frames(layout.resource.name, title, records)
    workspace = layout.workspace / "writer"
    writing = write_capsule(frames, capsule, workspace=workspace, on_progress=report, advice=lambda fits: ADVICE)
    await with_ticks(writing, look, seconds=LOOK_SECONDS)


MV2 = Format(
    name="mv2", extension="mv2", content_type="application/octet-stream", encode=encode, needed_fields=frozenset({"id"})
)
