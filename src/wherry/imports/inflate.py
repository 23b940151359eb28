"""Decompresses in bounded steps: gzip and zstd.

In: chunks of a compressed stream. Out: pieces of what it holds, of about 1 MiB, whatever the stream was made to do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

PIECE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""What frames begin with that hold no data (RFC 8878, section 3.1.2); a file may begin with one, as pzstd's do."""

DAMAGED = (zlib.error, cast(type[Exception], IsalError), zstandard.ZstdError)
"""What a stream that is not what it began as raises."""

_GZIP_WINDOW_BITS = 31  # zlib's way to ask for a gzip header (zlib manual, inflateInit2)
# All that stands behind a member is copied when it ends, and a member may be of 20 bytes.
_GZIP_SLICE_BYTES = 1 << 16
_ZSTD_MAX_WINDOW_BYTES = 1 << 27  # what the zstd program takes unless told otherwise
# Four bytes can hold a block of 128 KiB (RFC 8878, section 3.1.1.2): so much input at once yields at most 8 MiB.
_ZSTD_SLICE_BYTES = 256


class Inflater(Protocol):
    """Decompresses what it is fed."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What comes out."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the stream may end here."""
        ...


def inflater_for(head: bytes) -> Callable[[], Inflater] | None:
    """What reads a stream that begins so; None for plain text. No JSON text begins with any of the magic numbers."""
    if head.startswith(GZIP_MAGIC):
        return GzipInflater
    if head.startswith((ZSTD_MAGIC, *_SKIPPABLE_MAGIC)):
        return ZstdInflater
    return None


class GzipInflater:
    """gzip of one or several members (RFC 1952, section 2.2), zeros behind the last one allowed."""

    def __init__(self) -> None:
        self._member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)

    @property
    def complete(self) -> bool:
        """Whether a member has just ended."""
        return bool(self._member.eof)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What comes out, in pieces of at most 1 MiB."""
        for start in range(0, len(chunk), _GZIP_SLICE_BYTES):
            yield from self._members(chunk[start : start + _GZIP_SLICE_BYTES])

    def _members(self, chunk: bytes) -> Iterator[bytes]:
        pending = False
        while chunk or pending:
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    return
                self._member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
            piece = self._member.decompress(chunk, PIECE_BYTES)
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            pending = len(piece) == PIECE_BYTES  # there may be more, though all input is taken
            if piece:
                yield piece


class ZstdInflater:
    """zstd of one or several frames (RFC 8878, section 3)."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()

    @property
    def complete(self) -> bool:
        """Whether a frame has just ended."""
        return bool(self._frame.eof)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What comes out, in pieces of 1 to 9 MiB but for the last."""
        pieces: list[bytes] = []
        held = 0
        for start in range(0, len(chunk), _ZSTD_SLICE_BYTES):
            for piece in self._frames(chunk[start : start + _ZSTD_SLICE_BYTES]):
                pieces.append(piece)
                held += len(piece)
            if held >= PIECE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                held = 0
        if pieces:
            yield b"".join(pieces)

    def _frames(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            piece = self._frame.decompress(data)
            data = self._frame.unused_data if self._frame.eof else b""
            if piece:
                yield piece
