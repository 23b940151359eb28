"""Produces the bytes of an export's file: snapshot → format → compression → chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from wherry.exports.compression import find_compression
from wherry.exports.formats import find_format
from wherry.exports.formats.model import EncoderSignals, Layout
from wherry.exports.requests import ExportRequest
from wherry.exports.snapshot import Snapshot
from wherry.storage.workspaces import workspace

CHUNK_BYTES = 1 << 20
"""Large, because a thread that passes a chunk to the next may wait a whole batch for the interpreter's lock."""

AHEAD = 8
"""How many items `produced_ahead` keeps ready. With two, its threads wait for each other, and an export takes 6 %
longer (measured)."""

T = TypeVar("T")


class Artifact:
    """The output of one export.

    Args:
        request: the export's request.
        snapshot: reads its records.
    """

    def __init__(self, request: ExportRequest, snapshot: Snapshot) -> None:
        self._request = request
        self._snapshot = snapshot
        self._signals = EncoderSignals()

    @property
    def progress(self) -> float:
        """How much has been produced, from 0 to 1, based on the planner's estimate of the number of records."""
        rows, estimate = self._snapshot.rows, self._snapshot.estimate
        return 0.0 if estimate is None else rows / max(rows, estimate, 1) * self._signals.share

    def stop(self) -> None:
        """Make `chunks` end soon. Called from another thread; blocks briefly, and may have to be called again."""
        self._signals.stopping.set()
        self._snapshot.stop()

    def chunks(self) -> Generator[bytes, None, None]:
        """The whole file, in large chunks. Blocking."""
        compression = find_compression(self._request.compression)
        with workspace() as folder, closing(self._encoded(folder)) as encoded:
            yield from encoded if compression is None else compression.pack(encoded)

    def _encoded(self, folder: Path) -> Generator[bytes, None, None]:
        """The uncompressed file, produced in its own thread while the caller compresses, hashes and writes."""
        layout = Layout(
            table=self._request.selection.table,
            columns=self._request.selection.columns,
            references=self._request.selection.shown_references,
            escape_formulas=self._request.escape_formulas,
            workspace=folder,
            signals=self._signals,
        )

        def encode() -> Generator[bytes, None, None]:
            with closing(self._snapshot.batches()) as batches:
                yield from find_format(self._request.format).encode(batches, layout)

        return produced_ahead(_gathered(encode()))


def extension(request: ExportRequest) -> str:
    """The extension of the artifact's file name, such as `ndjson` or `csv.gz`."""
    compression = find_compression(request.compression)
    plain = find_format(request.format).extension
    return plain if compression is None else f"{plain}.{compression.extension}"


def content_type(request: ExportRequest) -> str:
    """The media type of the download. A compressed file has that of its compression: it is downloaded as it is."""
    compression = find_compression(request.compression)
    return find_format(request.format).content_type if compression is None else compression.content_type


def key(job_id: UUID, epoch: int, request: ExportRequest) -> str:
    """The storage key of a run's artifact. It contains the epoch, so that a stale run that resumes writes elsewhere."""
    return f"{job_id}/{epoch}.{extension(request)}"


def _gathered(pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    held: list[bytes] = []
    size = 0
    with closing(pieces):
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def produced_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, produced in a thread, up to `AHEAD` of them in advance.

    The database driver and the JSON encoder hold the interpreter's lock; compression, hashing and writing do not. So
    one thread for each, together with the database server, keeps two cores busy.

    An exception from `items` is raised after the items before it. Closing waits for the item that is being produced.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="export-ahead") as thread:
        waiting: deque[Future[T | None]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD:
                    waiting.append(thread.submit(next, items, None))
                item = waiting.popleft().result()
                if item is None:
                    return
                yield item
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(items.close).result()
