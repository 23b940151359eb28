"""Decompresses gzip and zstd in pieces of limited size, even if the stream was crafted to expand enormously."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

PIECE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""How frames without data begin (RFC 8878, section 3.1.2). Files may begin with one, as those written by pzstd do."""

DAMAGED = (zlib.error, cast(type[Exception], IsalError), zstandard.ZstdError)
"""The exceptions that a damaged stream raises."""

_GZIP_WINDOW_BITS = 31  # makes zlib expect a gzip header (zlib manual, inflateInit2)
# All input after a member is copied when the member ends, and a member may have only 20 bytes.
_GZIP_SLICE_BYTES = 1 << 16
_ZSTD_MAX_WINDOW_BYTES = 1 << 27  # the default limit of the zstd program
# Four bytes can encode a block of 128 KiB (RFC 8878, section 3.1.1.2), so this much input yields at most 8 MiB.
_ZSTD_SLICE_BYTES = 256


class GzipInflater:
    """gzip with one or several members (RFC 1952, section 2.2), and possibly zeros after the last one."""

    def __init__(self) -> None:
        self._member = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)

    @property
    def complete(self) -> bool:
        """Whether a member has just ended."""
        return bool(self._member.eof)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress in pieces of at most 1 MiB."""
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
            pending = len(piece) == PIECE_BYTES  # there may be more output, although all input has been consumed
            if piece:
                yield piece


class ZstdInflater:
    """zstd with one or several frames (RFC 8878, section 3)."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()

    @property
    def complete(self) -> bool:
        """Whether a frame has just ended."""
        return bool(self._frame.eof)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress in pieces of 1 to 9 MiB; the last one may be smaller."""
        pieces: list[bytes] = []
        size = 0
        for start in range(0, len(chunk), _ZSTD_SLICE_BYTES):
            for piece in self._frames(chunk[start : start + _ZSTD_SLICE_BYTES]):
                pieces.append(piece)
                size += len(piece)
            if size >= PIECE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
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


Inflater = GzipInflater | ZstdInflater


def inflater_for(head: bytes) -> type[Inflater] | None:
    """The inflater for a stream with this beginning, or None for plain text: JSON never begins with a magic number."""
    if head.startswith(GZIP_MAGIC):
        return GzipInflater
    return ZstdInflater if head.startswith((ZSTD_MAGIC, *_SKIPPABLE_MAGIC)) else None
