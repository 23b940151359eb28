"""How much of an import's errors its report keeps: a file of a kilobyte can have faults for hundreds of megabytes.

Past the budget errors are only counted. The running total is part of the job's checkpoint, so that it moves in the
transaction of the rows that it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from wherry.imports.models import Place, RecordError

ROW_BYTES = 200
"""What a row of `import_errors` takes besides its texts, with its entry in the index."""

_encode = msgspec.json.Encoder().encode


class ReportState(msgspec.Struct, frozen=True):
    """What has been written of a report: its bytes, and whether errors had to be left out."""

    size: int = 0
    truncated: bool = False

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None) -> Self:
        """The state that a job's checkpoint has."""
        kept = checkpoint or {}
        return cls(kept.get("reportBytes", 0), kept.get("reportTruncated", False))

    def checkpoint_at(self, place: Place) -> dict[str, Any]:
        """The checkpoint of an import that has come so far."""
        checkpoint: dict[str, Any] = {"index": place.index, "offset": place.offset}
        if self.size:
            checkpoint["reportBytes"] = self.size
        if self.truncated:
            checkpoint["reportTruncated"] = True
        return checkpoint

    def admit(self, errors: Sequence[RecordError], limit: int) -> tuple[Sequence[RecordError], ReportState]:
        """The errors that there is still room for, and the state after they were written; the first always fits."""
        if self.truncated:
            return (), self
        size = self.size
        for number, error in enumerate(errors):
            more = size + _bytes_of(error)
            if more > limit and size:
                return errors[:number], ReportState(size, truncated=True)
            size = more
        return errors, ReportState(size)


def _bytes_of(error: RecordError) -> int:
    texts = (error.record_id, error.code.name, error.message, error.field)
    extra = sum(len(_encode(value)) for value in (error.value, error.details) if value is not None)
    return ROW_BYTES + extra + sum(len(text.encode()) for text in texts if text is not None)
