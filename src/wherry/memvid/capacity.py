"""The capacity of a capsule.

Without an account, a capsule is limited to 52,428,800 bytes. The header, the log region and the payloads count toward
the limit; the indexes and the table of contents after them do not (measured with SDK 2.0.160, which refuses frames
beyond the limit).

A staged log remains in the capsule, so each frame counts with both its record and its payload. `put_many` needs even
more: its log grows to a power of two and never shrinks, and each batch leaves an outdated index of about 2,200 bytes
per frame among the payloads (measured: 2,000 frames took a log of 4 MiB and 3 MB of gaps). So frames that do not fit
when staged do not fit any other way.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 52_428_800
HEADER: Final = 4096
# Recovery appends its own records (the location of each part of the new index), which need room in the log.
LOG_SLACK: Final = 256 * 1024
_BATCH_GAP = 2200
MOST_FRAMES: Final = CAPACITY // 165
"""More frames than this never fit: the record of a frame in which everything is empty has 165 bytes."""


def fits_in_batches(frames: int, log: int, payloads: int) -> bool:
    """Whether frames with `log` bytes of records and `payloads` bytes of payload fit if written with `put_many`."""
    region = 1 << max(log - 1, 1).bit_length()
    return HEADER + region + payloads + frames * _BATCH_GAP <= CAPACITY
