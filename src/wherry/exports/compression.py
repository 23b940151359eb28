"""Compression of an artifact, on its way.

In: chunks. Out: chunks of a gzip (RFC 1952) or zstd (RFC 8878) stream. Both at their quickest level: a job's speed is
worth more than the last tenth of its size. The work is done without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import zstandard
from isal import isal_zlib

from wherry.errors import Invalid

GZIP_WINDOW = 31  # zlib's way to say: a window of 32 KiB, with gzip's header and checksum
LEVEL = 1


class Compressor(Protocol):
    """What zlib and zstandard have in common."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """One kind of compression: what a request calls it, what it adds to a file's name, its media type."""

    name: str
    extension: str
    content_type: str
    start: Callable[[], Compressor]

    def pack(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The compressed stream; whole and valid for no chunk at all too."""
        compressor = self.start()
        yield from map(compressor.compress, chunks)
        yield compressor.flush()


GZIP = Compression("gzip", "gz", "application/gzip", lambda: isal_zlib.compressobj(LEVEL, wbits=GZIP_WINDOW))
ZSTD = Compression("zstd", "zst", "application/zstd", lambda: zstandard.ZstdCompressor(LEVEL).compressobj())

COMPRESSIONS: Mapping[str, Compression] = MappingProxyType({each.name: each for each in (GZIP, ZSTD)})


def find_compression(name: object) -> Compression | None:
    """The compression of that name; None where none is asked for.

    Raises:
        Invalid: there is none; the message names those there are.
    """
    if name is None:
        return None
    found = COMPRESSIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise Invalid(f"compression must be one of {', '.join(COMPRESSIONS)}", field="compression")
    return found
