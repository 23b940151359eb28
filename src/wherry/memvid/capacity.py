"""How much a capsule holds.

A capsule made without an account holds 52,428,800 bytes. What counts is the header, the log region and the payloads;
the indexes and the table of contents, which come behind them, do not (measured with SDK 2.0.160: putting is refused
there).

A staged log stays in its capsule: each frame then counts with its record and its payload. Putting in batches needs
more still: its log grows to a power of two and is not given back, and each batch leaves an old index of about 2,200
bytes a frame among the payloads (measured: 2,000 frames took a log of 4 MiB and 3 MB of gaps). So what does not fit
staged fits no other way.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 52_428_800
HEADER: Final = 4096
# Recovery appends records of its own: where each part of the new index is. They need room in the log.
LOG_SLACK: Final = 256 * 1024
_BATCH_GAP = 2200


def fits_in_batches(frames: int, log: int, payloads: int) -> bool:
    """Whether `put_many` has room for frames that take `log` bytes of records and `payloads` bytes of payload."""
    region = 1 << max(log - 1, 1).bit_length()
    return HEADER + region + payloads + frames * _BATCH_GAP <= CAPACITY
