"""Files crafted to exhaust a worker take neither much memory nor much time."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from tests.integration.imports.harness import Bench, user
from wherry.imports.models import ImportOptions, OnConflict
from wherry.jobs.models import Job

MEGABYTE = 1 << 20

pytestmark = pytest.mark.security


def peak() -> int:
    """The peak memory of this process since the last reset, in bytes."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


LONG_LINES = {
    "ndjson": (b'{"id":1,"email":"a@b.c","name":"', b'"}\n{"id":2,"email":"b@b.c","name":"b"}\n'),
    "csv": (b"id,email,name\n1,a@b.c,", b"\n2,b@b.c,b\n"),
}


@pytest.mark.parametrize("format", LONG_LINES)
async def test_a_line_of_a_gigabyte_is_not_kept_in_memory(bench: Bench, format: str) -> None:
    before, after = LONG_LINES[format]

    async def file(megabytes: int) -> AsyncIterator[bytes]:
        yield before
        for _ in range(megabytes):
            yield b"x" * MEGABYTE
        yield after

    async def imported(megabytes: int) -> Job:
        options = ImportOptions(on_conflict=OnConflict.UPDATE)
        job = await bench.submit("users", b"", format=format, options=options)
        await bench.store.put(f"{job.id}/source", file(megabytes))
        return await bench.execute(job)

    forget_peak()
    await imported(40)
    usual = peak()  # with the buffers that any long line needs
    forget_peak()
    done = await imported(1023)
    assert await bench.faults(done) == [(0, "FIELD_TOO_LONG", None)]
    assert done.success_count == 1
    assert peak() - usual < 64 * MEGABYTE  # how often buffers are copied depends on the state of the heap


def gzip_bomb() -> bytes:
    """10 MB that decompress to 10 GB: a hundred members (RFC 1952, section 2.2) of 100 MiB each."""
    return gzip.compress(bytes(100 * MEGABYTE), compresslevel=9) * 100


def zstd_bomb() -> bytes:
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join(compressor.compress(bytes(MEGABYTE)) for _ in range(1200)) + compressor.flush()


@pytest.mark.parametrize("bomb", [gzip_bomb, zstd_bomb])
async def test_a_decompression_bomb_is_refused_at_once(bench: Bench, bomb: object) -> None:
    assert callable(bomb)
    data = bomb()
    await bench.run("users", [user(9)])
    before = forget_peak()
    begun = time.perf_counter()
    job = await bench.run("users", data)
    taken = time.perf_counter() - begun
    print(f"{len(data) / 1e6:.1f} MB refused after {taken:.2f} s")
    assert await bench.faults(job) == [(-1, "FILE_TOO_LARGE", None)]
    # A few times the 16 MiB that a record may have: how often they are copied depends on the state of the heap.
    assert peak() - before < 96 * MEGABYTE
    assert taken < 6  # about a second on an idle machine, but machines are not always idle
