"""mv2: a Memvid capsule of the records, one searchable frame per record, at `mv2://{resource}/{key}`.

The capsule is built and verified by separate processes before its first byte is sent. The format limits its size: if
the records do not fit, the job fails and reports how many would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from wherry.errors import CapsuleFailed, ErrorCode, JobFailed, SnapshotStopped
from wherry.exports.formats.model import ExportFormat, Layout
from wherry.exports.snapshot import RecordRow, RowBatch
from wherry.memvid.frame import record_frames
from wherry.memvid.spool import spool_frames
from wherry.memvid.writer import WriterEvent, write_capsule
from wherry.tables.model import Column
from wherry.tables.types import Form
from wherry.waiting import with_ticks

TITLES = ("title", "name", "slug", "email", "id")
"""The first of these fields that is exported is the title of a record's frame; otherwise its key is."""

ADVICE = "Select fewer records or fields, or use another format."
CHECK_SECONDS = 0.2
READ_BYTES = 1 << 20


def encode_mv2(batches: Iterable[RowBatch], layout: Layout) -> Iterator[bytes]:
    """Build the capsule, then yield it in chunks.

    Raises:
        JobFailed: there are no records, they do not fit, or the capsule could not be written.
        SnapshotStopped: the export was stopped.
    """
    records = (_record(layout.columns, row) for batch in batches for row in batch)
    first = next(records, None)
    if first is None:
        raise JobFailed(ErrorCode.EMPTY_FILE, "No records match the selection, and a capsule cannot be empty")
    capsule = layout.workspace / "records.mv2"
    # This generator blocks, so it runs its own event loop.
    asyncio.run(_write(chain([first], records), capsule, layout))
    with capsule.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


async def _write(records: Iterable[dict[str, Any]], capsule: Path, layout: Layout) -> None:
    def report(event: WriterEvent) -> None:
        layout.signals.share = event.progress

    async def check_stop() -> None:
        if layout.signals.stopping.is_set():
            raise SnapshotStopped

    layout.signals.share = 0.0
    key = layout.table.key
    title = next((field for field in TITLES if field in layout.fields), key[0])
    frames = record_frames(layout.table.name, key, title, records)
    spool, workspace = layout.workspace / "frames", layout.workspace / "writer"
    count = await with_ticks(spool_frames(frames, spool), check_stop, seconds=CHECK_SECONDS)
    writing = write_capsule(spool, count, capsule, workspace=workspace, on_progress=report, advice=lambda fits: ADVICE)
    try:
        await with_ticks(writing, check_stop, seconds=CHECK_SECONDS)
    except CapsuleFailed as error:
        raise JobFailed.by_capsule(error) from error


def _record(columns: Sequence[Column], row: RecordRow) -> dict[str, Any]:
    """A row as a mapping with JSON values. Numbers that Python might round are text."""
    return {column.name: _plain(column, value) for column, value in zip(columns, row, strict=True)}


def _plain(column: Column, read: Any) -> Any:
    (value,) = column.type.finished([read])
    if value is None or not column.type.is_json:
        return msgspec.to_builtins(value)
    if column.type.form is Form.NUMBER:
        return value.strip('"')
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):  # PostgreSQL's type json accepts more than Python can hold
        return value


MV2 = ExportFormat(
    name="mv2",
    extension="mv2",
    content_type="application/octet-stream",
    encode=encode_mv2,
    needs_key=True,
)
