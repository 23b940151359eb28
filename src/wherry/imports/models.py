"""What passes between the steps of an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import msgspec

from wherry.errors import ErrorCode
from wherry.resources.rules import OversizedNumber

SHOWN_CHARACTERS = 1000
SHOWN_ITEMS = 10
FILE_INDEX = -1
"""The `recordIndex` of an error of the file as a whole."""


class Format(StrEnum):
    """How records follow each other in a file."""

    NDJSON = "ndjson"
    JSON = "json"


class OnConflict(StrEnum):
    """What a natural key that another row holds does."""

    ERROR = "error"
    UPDATE = "update"
    SKIP = "skip"


@dataclass(frozen=True)
class Options:
    """What a caller may ask of an import."""

    on_conflict: OnConflict = OnConflict.ERROR
    dry_run: bool = False
    atomic: bool = False

    @property
    def one_transaction(self) -> bool:
        """Whether the whole import is one transaction, and starts from its beginning after a crash."""
        return self.dry_run or self.atomic


class Place(msgspec.Struct, frozen=True):
    """Where to resume: the next record's index, and the offset just past the last one in the decompressed text."""

    index: int = 0
    offset: int = 0

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None) -> Self:
        """Where a job with this checkpoint resumes."""
        return cls(checkpoint["index"], checkpoint["offset"]) if checkpoint else cls()

    @classmethod
    def after(cls, batch: Batch) -> Self:
        """Where to resume once this batch is committed."""
        return cls(batch[-1].index + 1, batch[-1].offset)


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it stands in the file.

    Attributes:
        index: of the record, from 0; blank lines do not count.
        offset: of the byte just past it, in the decompressed text (a byte-order mark does not count).
        data: its JSON text, or None where it is longer than allowed and was skipped.
        size: its bytes.
    """

    index: int
    offset: int
    data: bytes | None
    size: int


@dataclass(frozen=True, slots=True)
class RecordError:
    """One fault of one record, as the report shows it. `value` is as `shown` makes it."""

    index: int
    record_id: str | None
    code: ErrorCode
    message: str
    field: str | None = None
    value: object = None
    details: Mapping[str, object] | None = None

    @property
    def summary_key(self) -> str:
        """What `errorSummary` counts it under: its name, and the field after a dot where it has one."""
        return self.code.name if self.field is None else f"{self.code.name}.{self.field}"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record decoded, and its faults.

    Attributes:
        record: of the resource's record type. If there are errors, fields that are faulty or missing are None in it;
            it is None itself if no field could be read.
        errors: faults that the record shows by itself. The planner adds those that only the tables show.
    """

    index: int
    offset: int
    size: int
    record: Any
    errors: tuple[RecordError, ...]


Batch = list[Entry]


def shown(value: object, *, inside: bool = False) -> object:
    """A value as the report shows it: bounded, and such as jsonb can hold."""
    if isinstance(value, str):
        return clipped(value)
    if isinstance(value, OversizedNumber):
        return clipped(value.text)
    if isinstance(value, dict):
        return "[object]"
    if isinstance(value, list):
        return "[array]" if inside else [shown(item, inside=True) for item in value[:SHOWN_ITEMS]]
    return value


def clipped(text: str) -> str:
    """A text's first 1,000 characters, without NUL, which PostgreSQL cannot hold."""
    return text[:SHOWN_CHARACTERS].replace("\0", "\ufffd")


def label(field: str) -> str:
    """What messages call a field: `author_id` is "Author id"."""
    return field.replace("_", " ").capitalize()
