"""The declaration that a format is.

A new format is one file like `csv.py`, and its name in `__init__.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wherry.exports.snapshot import RowBatch
from wherry.resources.model import Resource


class EncoderSignals:
    """What the thread that encodes and the loop that waits for it tell each other.

    Attributes:
        stopping: set when the export is to end before its time.
        share: 0 to 1, how much is done of what was read.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.share = 1.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a format needs to know of the rows it is given.

    Attributes:
        resource: whose records they are.
        fields: what each row's values are, in order.
        escape_formulas: whether text that a spreadsheet would run is to be defused (csv).
        workspace: an empty directory of this export's own, for formats that must build a file.
        signals: for formats that are long busy without a chunk.
    """

    resource: Resource
    fields: tuple[str, ...]
    escape_formulas: bool = True
    workspace: Path = Path()
    signals: EncoderSignals = field(default_factory=EncoderSignals)


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """One way to write records down.

    Attributes:
        name: what a request calls it.
        extension: of the artifact's file name.
        content_type: of the download.
        encode: batches of rows to chunks of bytes, in a thread; with no row at all too.
        needed_fields: those that it cannot do without, whatever is asked for.
    """

    name: str
    extension: str
    content_type: str
    encode: Callable[[Iterable[RowBatch], Layout], Iterator[bytes]]
    needed_fields: frozenset[str] = frozenset()
