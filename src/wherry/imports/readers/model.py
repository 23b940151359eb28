"""How a format of import files is declared.

A new format is one file like `ndjson.py`, and its line in `__init__.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from wherry.errors import ErrorCode
from wherry.imports.models import LOOKED_AT, ImportOptions, Place, RawRecord, RecordError, clipped
from wherry.imports.source import SourceText
from wherry.tables.model import Table
from wherry.tables.values import Fault


class Unread(NamedTuple):
    """A field that its format could not convert to JSON: the text as JSON, and the fault to report."""

    text: msgspec.Raw
    fault: Fault


Fields: TypeAlias = Mapping[str, msgspec.Raw | Unread]
"""All fields of a record, by the names that they have in the file, or the columns that these stand for."""


class Splitter(Protocol):
    """Splits text into records. It is fed chunks, from a checkpoint on, in a thread."""

    def feed(self, chunk: bytes) -> Iterator[RawRecord]:
        """The records that end in this chunk.

        Raises:
            BrokenJson, JobFailed: the rest of the text cannot be read.
        """

    def finish(self) -> Iterator[RawRecord]:
        """The records that only the end of the text ends.

        Raises:
            BrokenJson, JobFailed: the text is incomplete.
        """


class RecordParser(ABC):
    """Converts the text of single records to JSON."""

    converts = True
    """Whether the text is anything but JSON."""

    @abstractmethod
    def as_json(self, data: bytes) -> bytes | None:
        """The record as a JSON object, or None if only `fields` can tell.

        If the text was anything but JSON, the object is valid and has no NUL; otherwise it may be invalid.
        """

    def converted(self, raws: Iterator[RawRecord]) -> Iterator[RawRecord]:
        """The same records, with their JSON if many are converted faster at a time."""
        return raws

    @abstractmethod
    def fields(self, index: int, data: bytes) -> Fields | RecordError:
        """The JSON of every field, or what is wrong with the record as a whole.

        Raises:
            BrokenJson: the rest of the file cannot be read either.
        """


@dataclass(frozen=True)
class Opening:
    """What a format needs in order to read a source from a checkpoint on. `max_bytes` is the limit of one record."""

    source: SourceText
    place: Place
    table: Table
    options: ImportOptions
    max_bytes: int


@dataclass(frozen=True)
class Reader:
    """A source that is open.

    Attributes:
        chunks: of text, from the checkpoint on.
        splitter: of that text.
        parser: of its records.
        heading: what a file of some of the records must begin with.
    """

    chunks: AsyncGenerator[bytes]
    splitter: Splitter
    parser: RecordParser
    heading: bytes = b""


@dataclass(frozen=True, kw_only=True)
class RecordsFormat:
    """A format of files of records.

    Attributes:
        name: its name in requests.
        content_type: of a file.
        extensions: of file names.
        content_types: that mean this format, if the file's name does not say another one.
        open: opens a source, and reads what precedes its records. Raises `JobFailed` if the file cannot be read.
        own_options: the options, as requests name them, that only such formats have.
        any_encoding: whether files may be in other encodings than UTF-8.
        is_array: whether a file is a JSON array, and not lines.
    """

    name: str
    content_type: str
    extensions: tuple[str, ...]
    content_types: tuple[str, ...] = ()
    open: Callable[[Opening], Awaitable[Reader]]
    own_options: tuple[str, ...] = ()
    any_encoding: bool = False
    is_array: bool = False

    @property
    def frame(self) -> tuple[bytes, bytes, bytes]:
        """What is before, between and after the items of a list: an array if the format is one, otherwise lines."""
        return (b"[", b",\n", b"]\n") if self.is_array else (b"", b"\n", b"\n")


def not_utf8(index: int, data: bytes) -> RecordError:
    """The error of a record that is not UTF-8."""
    message, value = "Record is not valid UTF-8", clipped(data[:LOOKED_AT].decode(errors="replace"))
    return RecordError(index, None, ErrorCode.ENCODING_ERROR, message, value=value)
