"""Passes frames from one process to another through a file, in flat memory.

Each frame is its length (u32, little-endian), then its MessagePack.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

import msgspec

from wherry.errors import SpoolFull
from wherry.memvid.frame import Frame
from wherry.waiting import beside_the_loop

_LENGTH = struct.Struct("<I")
_BUFFER = 1 << 20
MAX_URI_SHOWN = 200


class Spool:
    """Writes frames to a new file.

    Args:
        path: the file; it must not exist yet.
        max_bytes: size limit of the file.
        max_frame_bytes: size limit of each frame.
    """

    def __init__(self, path: Path, max_bytes: int = sys.maxsize, max_frame_bytes: int = sys.maxsize) -> None:
        self._max_bytes = self._room = max_bytes
        self._max_frame_bytes = max_frame_bytes
        self._file = path.open("xb", buffering=_BUFFER)
        self._encode = msgspec.msgpack.Encoder().encode
        self.frames = 0

    def add(self, frames: Iterable[Frame]) -> None:
        """Append frames, in order. Integers beyond 64 bits become strings of digits, in the given frame too.

        Raises:
            SpoolFull: a limit is exceeded.
        """
        write, encode = self._file.write, self._encode
        for frame in frames:
            try:
                data = encode(frame)
            except OverflowError:  # MessagePack's integers end at 64 bits, JSON's do not
                _spell_out(frame.metadata)
                data = encode(frame)
            self._room -= _LENGTH.size + len(data)
            if len(data) > self._max_frame_bytes:
                raise SpoolFull(f"the frame {frame.uri[:MAX_URI_SHOWN]} takes more than {self._max_frame_bytes} bytes")
            if self._room < 0:
                raise SpoolFull(f"its frames take more than {self._max_bytes} bytes")
            write(_LENGTH.pack(len(data)))
            write(data)
            self.frames += 1

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    """Write all frames to a new file without blocking the event loop; return how many there were.

    Args:
        frames: consumed in a thread.
        path: the file; it must not exist yet.
    """
    stop = Event()
    with Spool(path) as spool:
        await beside_the_loop(partial(spool.add, _until(frames, stop)), stop=stop.set)
        return spool.frames


def _until(frames: Iterable[Frame], stop: Event) -> Iterator[Frame]:
    for frame in frames:
        if stop.is_set():
            return
        yield frame
