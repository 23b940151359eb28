from __future__ import annotations

import asyncio

import pytest

from wherry.tasks import with_ticks


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
