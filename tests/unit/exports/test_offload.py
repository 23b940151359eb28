from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator

import pytest

from wherry.exports.offload import AHEAD, OffLoop


class Source:
    """A blocking source that a test can watch and hold up."""

    def __init__(self, count: int, hold_at: int | None = None) -> None:
        self.count = count
        self.hold_at = hold_at
        self.made = 0
        self.threads: set[int] = set()
        self.released = threading.Event()
        self.closed = threading.Event()

    def chunks(self) -> Generator[bytes, None, None]:
        try:
            for number in range(self.count):
                self.threads.add(threading.get_ident())
                if number == self.hold_at:
                    self.released.wait(30)
                self.made += 1
                yield str(number).encode()
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()

    def stop(self) -> None:
        self.released.set()


async def test_every_chunk_comes_in_order_from_one_thread_beside_the_loop() -> None:
    source = Source(100)
    chunks = OffLoop(source.chunks(), source.stop)
    assert [chunk async for chunk in chunks] == [str(number).encode() for number in range(100)]
    await chunks.aclose()
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


async def test_the_thread_works_ahead_by_a_few_and_no_more() -> None:
    source = Source(100, hold_at=10)
    chunks = OffLoop(source.chunks(), source.stop)
    await anext(chunks)
    await asyncio.get_running_loop().run_in_executor(None, source.released.wait, 0.05)
    assert source.made <= AHEAD
    await chunks.aclose()


async def test_the_loop_goes_on_while_the_source_blocks() -> None:
    source = Source(3, hold_at=0)
    chunks = OffLoop(source.chunks(), source.stop)
    waiting = asyncio.ensure_future(anext(chunks))
    ticks = 0
    while ticks < 5:
        await asyncio.sleep(0)
        ticks += 1
    assert not waiting.done()
    source.released.set()
    assert await waiting == b"0"
    await chunks.aclose()


async def test_closing_stops_a_source_that_blocks_and_lets_it_clean_up() -> None:
    source = Source(3, hold_at=1)
    chunks = OffLoop(source.chunks(), source.stop)
    assert await anext(chunks) == b"0"
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    waiting.cancel()
    await chunks.aclose()
    assert source.closed.is_set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_the_source_raises_comes_out_where_it_is_awaited() -> None:
    def failing() -> Iterator[bytes]:
        yield b"0"
        raise LookupError("broken")

    chunks = OffLoop((chunk for chunk in failing()), lambda: None)
    assert await anext(chunks) == b"0"
    with pytest.raises(LookupError, match="broken"):
        await anext(chunks)
    await chunks.aclose()


async def test_closing_before_the_first_chunk_starts_nothing() -> None:
    source = Source(3)
    await OffLoop(source.chunks(), source.stop).aclose()
    assert source.made == 0
