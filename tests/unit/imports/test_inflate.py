"""Decompression is correct however the stream is divided, and its cost depends only on its size."""

from __future__ import annotations

import gzip
import struct
import time

import pytest
import zstandard

from wherry.imports.inflate import PIECE_BYTES, GzipInflater, inflater_for

TEXT = b"".join(b'{"n": %d}\n' % number for number in range(200_000))


def inflated(data: bytes, step: int) -> list[bytes]:
    inflater = GzipInflater()
    pieces = [piece for start in range(0, len(data), step) for piece in inflater.feed(data[start : start + step])]
    assert inflater.complete
    return pieces


@pytest.mark.parametrize("step", [1000, 65_535, 65_536, 65_537, 1 << 20, 1 << 30])
@pytest.mark.parametrize("members", [1, 3, 400])
def test_gzip_is_decompressed_correctly_wherever_chunks_end(members: int, step: int) -> None:
    size = -(-len(TEXT) // members)
    data = b"".join(gzip.compress(TEXT[start : start + size], 1) for start in range(0, len(TEXT), size))
    pieces = inflated(data + bytes(100_000), step)
    assert b"".join(pieces) == TEXT
    assert max(map(len, pieces)) <= PIECE_BYTES


def test_highly_compressed_data_is_yielded_in_small_pieces() -> None:
    pieces = inflated(gzip.compress(bytes(1 << 28), 1), 1 << 20)
    assert sum(map(len, pieces)) == 1 << 28
    assert max(map(len, pieces)) == PIECE_BYTES


def test_many_empty_members_take_linear_time_whatever_the_chunk_size() -> None:
    data = gzip.compress(b"") * 50_000

    def seconds(step: int) -> float:
        begun = time.perf_counter()
        assert inflated(data, step) == []
        return time.perf_counter() - begun

    assert min(seconds(1 << 20) for _ in range(3)) < 4 * min(seconds(1 << 14) for _ in range(3))


@pytest.mark.parametrize("number", range(16))
def test_zstd_may_begin_with_a_skippable_frame(number: int) -> None:
    data = struct.pack("<II", 0x184D2A50 + number, 5) + b"other" + zstandard.compress(TEXT)
    make_inflater = inflater_for(data[:4])
    assert make_inflater is not None
    inflater = make_inflater()
    assert b"".join(inflater.feed(data)) == TEXT
    assert inflater.complete
