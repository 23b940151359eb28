"""Compresses an artifact while it is written, with gzip (RFC 1952) or zstd (RFC 8878).

Both use their fastest level, because speed matters more than the last tenth of the size. Neither holds the
interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import zstandard
from isal import isal_zlib

from wherry.errors import Invalid

GZIP_WINDOW = 31  # zlib's code for a window of 32 KiB with the header and checksum of gzip
LEVEL = 1


class Compressor(Protocol):
    """The interface that zlib and zstandard share."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """A kind of compression: its name in requests, its file extension and its media type."""

    name: str
    extension: str
    content_type: str
    start: Callable[[], Compressor]

    def pack(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The compressed stream, which is complete and valid even if there are no chunks."""
        compressor = self.start()
        yield from map(compressor.compress, chunks)
        yield compressor.flush()


GZIP = Compression("gzip", "gz", "application/gzip", lambda: isal_zlib.compressobj(LEVEL, wbits=GZIP_WINDOW))
ZSTD = Compression("zstd", "zst", "application/zstd", lambda: zstandard.ZstdCompressor(LEVEL).compressobj())

COMPRESSIONS: Mapping[str, Compression] = MappingProxyType({each.name: each for each in (GZIP, ZSTD)})


def find_compression(name: object) -> Compression | None:
    """The compression with that name, or None if `name` is None.

    Raises:
        Invalid: no such compression; the message lists them.
    """
    if name is None:
        return None
    found = COMPRESSIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise Invalid(f"compression must be one of {', '.join(COMPRESSIONS)}", field="compression")
    return found
