"""How a format is declared.

A new format is one file like `csv.py`, and its name in `__init__.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wherry.exports.snapshot import RowBatch
from wherry.tables.model import Column, ReferenceField, Table


class EncoderSignals:
    """How the encoding thread and the event loop that waits for it communicate.

    Attributes:
        stopping: set to end the export early.
        share: how much of what was read has been encoded, from 0 to 1.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.share = 1.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a format needs to know about the rows that it encodes.

    Attributes:
        table: the table of the rows.
        columns: of a row, in order.
        references: that some of the columns are.
        escape_formulas: whether to escape text that a spreadsheet would run (csv).
        workspace: an empty directory for this export, for formats that must build a file first.
        signals: for formats that work for a long time before the first chunk.
    """

    table: Table
    columns: tuple[Column, ...]
    references: tuple[ReferenceField, ...] = ()
    escape_formulas: bool = False
    workspace: Path = Path()
    signals: EncoderSignals = field(default_factory=EncoderSignals)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A file format that records can be exported in.

    Attributes:
        name: its name in requests.
        extension: of the file name.
        content_type: of the download.
        encode: turns batches of rows into chunks of bytes, in a thread. There may be no rows.
        needs_key: whether it always includes the columns of the table's key, even if they were not requested.
    """

    name: str
    extension: str
    content_type: str
    encode: Callable[[Iterable[RowBatch], Layout], Iterator[bytes]]
    needs_key: bool = False
