"""Writes all frames of a capsule at once, as pending records in its write-ahead log.

In: an empty capsule, created by the SDK, and frames. Out: the same file with every frame pending in its log, as if a
writer had died before its commit. When the file is next opened for writing, the SDK's crash recovery commits them all
at once, about a hundred times faster than putting them one by one.

The layout was derived from the public source of memvid-core (Apache-2.0) and from records that SDK 2.0.160 writes. All
numbers are little-endian.

    file      0  header, 4096 bytes        8  u64 footer_offset   start of the table of contents and the footer
                                          16  u64 wal_offset      4096
                                          24  u64 wal_size        bytes in the log region, used or not
                                          32  u64 checkpoint_pos  where in the region the next record goes
                                          40  u64 sequence        of the last committed record
           4096  log region               records in sequence, up to the first with sequence and length 0
              …  payloads, indexes, table of contents, footer

    record    0  u64 sequence
              8  u32 length of the entry
             12  u32 0
             16  BLAKE3 of the entry, 32 bytes
             48  the entry

    entry     bincode with fixed-width integers: a string or list is preceded by its length as u64; an option is a
              byte 0, or a byte 1 and the value; an enum's variant is a u32.

              u32 variant = 0 (frame)        i64 timestamp, s            string? kind          string? track
              bytes payload                  f32[]? embedding = none     string? uri           string? title
              u32 encoding (0 plain, 1 zstd) u64? length, decoded        document? = none      string? search text
              string[] tags                  string[] labels             map<string, JSON as string> metadata, by key
              string[] dates = []            chunks? = none              u32 role = 0          u64? parent = none
              u32? chunk index = none        u32? chunk count = none     u32 operation = 0     u64? target = none
              u64? supersedes = none         u64? reuses = none          sha256? = none        string? path = none
              u32 enrichment = 1 (done)

The layout is a private detail of one SDK version. So that version is pinned, the tests compare the SDK's records with
ours, and every capsule is verified before it is published.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec
import zstandard
from blake3 import blake3

from wherry.errors import DoesNotFit
from wherry.memvid.capacity import CAPACITY, HEADER, LOG_SLACK
from wherry.memvid.frame import Frame

_U32 = struct.Struct("<I").pack
_U64 = struct.Struct("<Q").pack
_I64 = struct.Struct("<q").pack
_FIELDS = struct.Struct("<5Q")
_FIELDS_AT = 8
_RECORD = struct.Struct("<QII")
RECORD_HEADER = 48

_NONE, _SOME = b"\0", b"\1"
_PLAIN, _ZSTD = 0, 1
_FRAME = _U32(0)
# dates; chunks, role, parent, chunk index and count, operation, target, supersedes, reuses, sha256, path, enrichment
_REST = _U64(0) + _NONE + _U32(0) + _NONE * 3 + _U32(0) + _NONE * 5 + _U32(1)
_WRITE_BUFFER = 1 << 20

_json = msgspec.json.Encoder()


Entry = tuple[bytes, int]
"""An encoded frame, and how many bytes of it are payload."""


class Encoder:
    """Encodes frames as entries of the log. `timestamp` is that of every frame, in Unix seconds."""

    def __init__(self, timestamp: int) -> None:
        self._head = _FRAME + _I64(timestamp)
        self._compressor = zstandard.ZstdCompressor(level=6)

    def entry(self, frame: Frame, search_text: str, *, packed: bool = True) -> Entry:
        """Encode a frame. Its text is compressed if that makes it shorter, unless `packed` is false."""
        payload = plain = frame.text.encode()
        if packed and len(shorter := self._compressor.compress(plain)) < len(plain):
            payload = shorter
        metadata = sorted((name.encode(), _json.encode(value)) for name, value in frame.metadata.items())
        parts = (
            self._head,
            _option(frame.kind),
            _option(frame.track),
            _bytes(payload),
            _NONE,
            _option(frame.uri),
            _option(frame.title),
            _U32(_PLAIN if payload is plain else _ZSTD),
            _SOME,
            _U64(len(plain)),
            _NONE,
            _option(search_text),
            _strings(frame.tags),
            _strings(frame.labels),
            _U64(len(metadata)),
            *(_bytes(part) for item in metadata for part in item),
            _REST,
        )
        return b"".join(parts), len(payload)


def _bytes(value: bytes) -> bytes:
    return _U64(len(value)) + value


def _option(value: str | None) -> bytes:
    return _NONE if value is None else _SOME + _bytes(value.encode())


def _strings(values: list[str]) -> bytes:
    return _U64(len(values)) + b"".join(_bytes(value.encode()) for value in values)


def record(sequence: int, entry: bytes) -> bytes:
    """A record of the log."""
    return _RECORD.pack(sequence, len(entry), 0) + blake3(entry).digest() + entry


def stage(path: Path, entries: Iterable[Entry], last: Entry, capacity: int = CAPACITY) -> int:
    """Write entries, then `last`, into the log of the empty capsule at `path`. Returns the number of entries.

    Everything after the log moves back. The header is written last, so that a half-written file is not a valid capsule.

    Raises:
        DoesNotFit: header, log and payloads would exceed `capacity` bytes.
    """
    with path.open("r+b", buffering=_WRITE_BUFFER) as file:
        header = bytearray(file.read(HEADER))
        footer, offset, size, checkpoint, sequence = _FIELDS.unpack_from(header, _FIELDS_AT)
        file.seek(offset + size)
        tail = file.read()
        file.seek(offset)
        count, room = 0, capacity - offset - LOG_SLACK - _room_for(last)
        for entry in entries:
            room -= _room_for(entry)
            if room < 0:
                raise DoesNotFit(count)
            count += 1
            file.write(record(sequence + count, entry[0]))
        if room < 0:
            raise DoesNotFit(0)
        file.write(record(sequence + count + 1, last[0]))
        file.write(bytes(LOG_SLACK))
        used = file.tell() - offset
        file.write(tail)
        file.truncate()
        _FIELDS.pack_into(header, _FIELDS_AT, footer + used - size, offset, used, checkpoint, sequence)
        file.seek(0)
        file.write(header)
    return count + 1


def _room_for(entry: Entry) -> int:
    return RECORD_HEADER + len(entry[0]) + entry[1]
