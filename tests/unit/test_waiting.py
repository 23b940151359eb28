from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from wherry.waiting import beside_the_loop, in_background, is_set_within, with_ticks


async def test_the_result_comes_with_calls_in_between() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        ticks += 1

    assert await with_ticks(asyncio.sleep(0.1, "done"), tick, seconds=0.01) == "done"
    assert ticks > 2


async def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await with_ticks(work(), work, seconds=1)


async def test_an_error_of_a_call_ends_the_work() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended = True

    async def tick() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await with_ticks(work(), tick, seconds=0.01)
    assert ended


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


async def test_a_wait_for_an_event_ends_with_the_event_or_the_time() -> None:
    event = asyncio.Event()
    assert not await is_set_within(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await is_set_within(event, 10)
    assert await is_set_within(event, 0)


async def test_work_in_the_background_ends_with_its_context() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with in_background(work(), name="work"):
        await asyncio.wait_for(began.wait(), 10)
    assert ended.is_set()
