from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator

import pytest

from wherry.exports.offload import AHEAD, ahead, beside_the_loop


class Work:
    """Blocks until it is told to end, `reminders` times."""

    def __init__(self, reminders: int = 1) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.reminders = reminders
        self._stopped = threading.Semaphore(0)

    def run(self) -> str:
        self.started.set()
        for _ in range(self.reminders):
            self._stopped.acquire(timeout=30)
        self.ended.set()
        raise LookupError("it was stopped")

    def stop(self) -> None:
        self._stopped.release()


async def nothing() -> None:
    return


async def run(work: Work, tick: Callable[[], Awaitable[None]] = nothing, seconds: float = 0.001) -> str:
    return await beside_the_loop(work.run, stop=work.stop, tick=tick, seconds=seconds)


async def test_the_work_runs_in_another_thread_and_its_result_comes_back() -> None:
    thread = await beside_the_loop(threading.get_ident, stop=lambda: None, tick=nothing, seconds=1)
    assert thread != threading.get_ident()


async def test_the_loop_goes_on_and_ticks_while_the_work_blocks() -> None:
    work, ticks = Work(), 0

    async def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            work.stop()

    with pytest.raises(LookupError, match="it was stopped"):
        await run(work, tick)
    assert ticks >= 3


async def test_what_the_tick_raises_comes_out_after_the_work_has_ended() -> None:
    work = Work()

    async def tick() -> None:
        raise ValueError("cancelled by its owner")

    with pytest.raises(ValueError, match="cancelled by its owner"):
        await run(work, tick)
    assert work.ended.is_set()


async def test_a_cancelled_task_leaves_no_thread_behind() -> None:
    work = Work()
    running = asyncio.create_task(run(work, seconds=60))
    await asyncio.to_thread(work.started.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.ended.is_set()


async def test_work_that_misses_a_reminder_is_reminded_again() -> None:
    work = Work(reminders=3)
    running = asyncio.create_task(run(work, seconds=60))
    await asyncio.to_thread(work.started.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.ended.is_set()


class Source:
    """Numbers from a blocking generator that a test can watch and hold up."""

    def __init__(self, count: int, hold_at: int | None = None) -> None:
        self.count = count
        self.hold_at = hold_at
        self.made = 0
        self.threads: set[int] = set()
        self.held = threading.Event()
        self.released = threading.Event()
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(1, self.count + 1):
                self.threads.add(threading.get_ident())
                if number == self.hold_at:
                    self.held.set()
                    self.released.wait(30)
                self.made = number
                yield number
        finally:
            self.threads.add(threading.get_ident())
            self.closed = True


def test_every_item_comes_in_order_from_one_thread_of_its_own() -> None:
    source = Source(100)
    assert list(ahead(source.items())) == list(range(1, 101))
    assert source.closed
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_the_next_items_are_made_while_the_consumer_is_busy_but_only_a_few() -> None:
    source = Source(100, hold_at=AHEAD + 1)
    items = ahead(source.items())
    assert next(items) == 1
    assert next(items) == 2  # which asks for one more than what may wait
    assert source.held.wait(10)
    assert source.made == AHEAD
    source.released.set()
    items.close()
    assert source.made <= AHEAD + 2
    assert source.closed


def test_what_the_source_raises_comes_out_behind_the_items_before_it() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise LookupError("broken")

    items = ahead(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError, match="broken"):
        next(items)
