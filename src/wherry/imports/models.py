"""The values that the steps of an import pass to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import msgspec

from wherry.errors import ErrorCode
from wherry.tables.values import OversizedNumber

REPORTED_CHARACTERS = 1000
REPORTED_ITEMS = 10
LOOKED_AT = 4 * REPORTED_CHARACTERS
"""In bytes: the most that so many characters can take."""
FILE_INDEX = -1
"""The `recordIndex` of an error that concerns the file as a whole."""


class OnConflict(StrEnum):
    """What happens to a record whose natural key another row already has."""

    ERROR = "error"
    UPDATE = "update"
    SKIP = "skip"


class UnknownFields(StrEnum):
    """What happens to fields that the table does not have."""

    IGNORE = "ignore"
    WARN = "warn"
    ERROR = "error"


class ImportOptions(msgspec.Struct, rename="camel", frozen=True):
    """The options of an import, as stored with its job.

    Attributes:
        max_errors: if more records than this have errors, the import stops.
        columns: the field of each header of a csv file, or None if it is ignored.
        records_at: where the records of a JSON document are: keys joined by dots.
        webhook_url: called when the import ends.
    """

    on_conflict: OnConflict = OnConflict.ERROR
    dry_run: bool = False
    atomic: bool = False
    max_errors: int | None = None
    unknown_fields: UnknownFields = UnknownFields.IGNORE
    columns: dict[str, str | None] | None = None
    records_at: str | None = None
    webhook_url: str | None = None

    @property
    def one_transaction(self) -> bool:
        """Whether the whole import is one transaction, which starts over after a crash."""
        return self.dry_run or self.atomic


class Place(msgspec.Struct, frozen=True):
    """Where to resume: the index of the next record, and the offset in the decompressed text after the last one."""

    index: int = 0
    offset: int = 0

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None) -> Self:
        """Where a job with this checkpoint resumes."""
        return msgspec.convert(checkpoint or {}, cls)

    @classmethod
    def after(cls, batch: Batch) -> Self:
        """Where to resume once this batch is committed."""
        return cls(batch[-1].index + 1, batch[-1].offset)


class RawRecord(msgspec.Struct, gc=False):
    """One record as it appears in the file.

    Attributes:
        index: of the record, counted from 0 without blank lines.
        offset: of the byte after it in the decompressed text, not counting a byte-order mark.
        data: its JSON text, or None if it is too long and was skipped.
        size: in bytes.
        start: the offset of its first byte, if it was skipped.
        json: the record as JSON, if its format is another and has converted it already.
        record: as the typed decoder would decode it, if its format has done so already.
    """

    index: int
    offset: int
    data: bytes | None
    size: int
    start: int = 0
    json: bytes | None = None
    record: Any = None


@dataclass(frozen=True, slots=True)
class RecordError:
    """One fault of one record, as in the report. `value` has been shortened by `report_value`."""

    index: int
    record_id: str | None
    code: ErrorCode
    message: str
    field: str | None = None
    value: object = None
    details: Mapping[str, object] | None = None

    @property
    def summary_key(self) -> str:
        """Its key in `errorSummary`: the name of its code, then a dot and the field if it is one of the table's."""
        has_field = self.field is not None and self.code is not ErrorCode.INVALID_RECORD_STRUCTURE  # an unknown one
        return f"{self.code.name}.{self.field}" if has_field else self.code.name


class DecodedRecord(msgspec.Struct, frozen=True, gc=False):
    """A decoded record and its faults.

    Attributes:
        record: of the type of the table's `ImportShape`. If there are errors, its faulty fields are absent. The record
            itself is None if no field could be read.
        errors: faults that are visible in the record alone. The planner adds those that depend on the tables.
        text: its JSON, if it may have to be decoded again.
        is_unparsed: whether it has values that only PostgreSQL can read, so that COPY cannot write it.
        unknown: the names of its unknown fields, if these are only noted.
        keys: by which it names rows of other tables: in the order of `references_of`, and UNSET for those that it does
            not give. The columns that they stand for are absent until `Resolver` has found these rows.
    """

    index: int
    offset: int
    size: int
    record: Any
    errors: tuple[RecordError, ...]
    is_unparsed: bool = False
    text: bytes | None = None
    unknown: tuple[str, ...] = ()
    keys: tuple[Any, ...] = ()


Batch = list[DecodedRecord]


def report_value(value: object, *, inside: bool = False) -> object:
    """A value for the report: of limited size, and valid as jsonb."""
    if isinstance(value, str):
        return clipped(value)
    if isinstance(value, OversizedNumber):
        return clipped(value.text)
    if isinstance(value, dict):
        return "[object]"
    if isinstance(value, list):
        return "[array]" if inside else [report_value(item, inside=True) for item in value[:REPORTED_ITEMS]]
    return value


def clipped(text: str) -> str:
    """A text's first 1,000 characters. NUL, which PostgreSQL cannot store, is replaced."""
    return text[:REPORTED_CHARACTERS].replace("\0", "\ufffd")
