"""Passes frames from one process to another through a file, in flat memory.

Each frame is its length (u32, little-endian), then its MessagePack.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import Any

import msgspec

from wherry.errors import SpoolFull
from wherry.memvid.frame import Frame
from wherry.texts import SHOWN_CHARACTERS
from wherry.waiting import beside_the_loop

_LENGTH = struct.Struct("<I")
_BUFFER = 1 << 20


def write_spool(
    path: Path, frames: Iterable[Frame], max_bytes: int = sys.maxsize, max_frame_bytes: int = sys.maxsize
) -> int:
    """Write frames to a new file, in order; return how many there were.

    Integers beyond 64 bits become strings of digits, in the given frames too.

    Raises:
        FileExistsError: the file exists.
        SpoolFull: a limit is exceeded.
    """
    encode = msgspec.msgpack.Encoder().encode
    room, count = max_bytes, 0
    with path.open("xb", buffering=_BUFFER) as file:
        for frame in frames:
            try:
                data = encode(frame)
            except OverflowError:  # MessagePack's integers end at 64 bits, JSON's do not
                _spell_out(frame.metadata)
                data = encode(frame)
            room -= _LENGTH.size + len(data)
            if len(data) > max_frame_bytes:
                raise SpoolFull(f"the frame {frame.uri[:SHOWN_CHARACTERS]} takes more than {max_frame_bytes} bytes")
            if room < 0:
                raise SpoolFull(f"its frames take more than {max_bytes} bytes")
            file.write(_LENGTH.pack(len(data)))
            file.write(data)
            count += 1
    return count


def _spell_out(metadata: dict[str, Any]) -> None:
    """Replace every integer beyond 64 bits by its digits. Without recursion, as JSON may be nested deeply."""
    containers: list[Any] = [metadata]
    while containers:
        container = containers.pop()
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(value, dict | list):
                containers.append(value)
            elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
                container[key] = str(value)


def read_spool(path: Path) -> Iterator[Frame]:
    """The frames of a spool file, in order."""
    decode = msgspec.msgpack.Decoder(Frame).decode
    with path.open("rb", buffering=_BUFFER) as file:
        while head := file.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            yield decode(file.read(length))


def read_last(path: Path) -> Frame:
    """The last frame of a spool file that is not empty."""
    return deque(read_spool(path), maxlen=1)[0]


async def spool_frames(frames: Iterable[Frame], path: Path) -> int:
    """`write_spool` without blocking the event loop: the frames are consumed in a thread."""
    stop = Event()
    unless_stopped = takewhile(lambda _: not stop.is_set(), frames)
    return await beside_the_loop(partial(write_spool, path, unless_stopped), stop=stop.set)
