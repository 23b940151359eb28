"""Hands frames from one process to another through a file, in flat memory.

In: frames. Out: a file of them, each as its length (u32, little-endian) and its MessagePack; read back one at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from wherry.capsules.frame import Frame

_LENGTH = struct.Struct("<I")
_BUFFER = 1 << 20


class Spool:
    """Writes frames to a new file.

    Args:
        path: where; it must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=_BUFFER)
        self._encode = msgspec.msgpack.Encoder().encode
        self.frames = 0

    def add(self, frames: Iterable[Frame]) -> None:
        """Append frames, in order."""
        write, encode = self._file.write, self._encode
        for frame in frames:
            data = encode(frame)
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


def read_spool(path: Path) -> Iterator[Frame]:
    """The frames of a spool file, in order."""
    decode = msgspec.msgpack.Decoder(Frame).decode
    with path.open("rb", buffering=_BUFFER) as file:
        while head := file.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            yield decode(file.read(length))
