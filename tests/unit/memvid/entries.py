"""Decodes an entry of a capsule's log; written apart from the encoder, so that each checks the other."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, size: int) -> int:
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def raw(self) -> bytes:
        size = self.number(8)
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.raw().decode()

    def option(self, read: Callable[[], Any]) -> Any:
        return read() if self.number(1) else None

    def many(self, read: Callable[[], Any]) -> list[Any]:
        return [read() for _ in range(self.number(8))]


def decode(entry: bytes) -> dict[str, Any]:
    """All fields of a frame's entry, by name; the payload also as the text that it stands for."""
    read = Reader(entry)
    fields: dict[str, Any] = {
        "variant": read.number(4),
        "timestamp": read.number(8),
        "kind": read.option(read.text),
        "track": read.option(read.text),
        "payload": read.raw(),
        "embedding": read.option(read.raw),
        "uri": read.option(read.text),
        "title": read.option(read.text),
        "encoding": read.number(4),
        "length": read.option(lambda: read.number(8)),
        "document": read.option(read.raw),
        "search_text": read.option(read.text),
        "tags": read.many(read.text),
        "labels": read.many(read.text),
        "metadata_text": {read.text(): read.text() for _ in range(read.number(8))},
        "dates": read.many(read.text),
        "chunks": read.option(read.raw),
        "role": read.number(4),
        "parent": read.option(lambda: read.number(8)),
        "chunk_index": read.option(lambda: read.number(4)),
        "chunk_count": read.option(lambda: read.number(4)),
        "operation": read.number(4),
        "target": read.option(lambda: read.number(8)),
        "supersedes": read.option(lambda: read.number(8)),
        "reuses": read.option(lambda: read.number(8)),
        "sha256": read.option(lambda: read.number(32)),
        "path": read.option(read.text),
        "enrichment": read.number(4),
    }
    fields["metadata"] = {name: json.loads(value) for name, value in fields.pop("metadata_text").items()}
    payload = fields["payload"]
    fields["text"] = (
        zstandard.ZstdDecompressor().decompressobj().decompress(payload) if fields["encoding"] == 1 else payload
    )
    assert read.at == len(entry), "bytes are left over"
    return fields


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The records in a capsule's log, as (sequence, entry), committed or not."""
    data = path.read_bytes()
    at, size = struct.unpack_from("<2Q", data, 16)
    end = at + size
    while at + 48 <= end:
        sequence, length = struct.unpack_from("<QI", data, at)
        if not sequence and not length:
            return
        yield sequence, data[at + 48 : at + 48 + length]
        at += 48 + length
