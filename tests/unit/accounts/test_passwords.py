"""How passwords are hashed and verified."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from argon2 import PasswordHasher

from wherry.accounts import passwords
from wherry.accounts.passwords import Passwords
from wherry.errors import Unavailable

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


async def test_a_hash_is_argon2id_at_the_recommended_cost_and_matches_only_its_password() -> None:
    kept = await Passwords().hash("correct horse")

    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106, section 4, second recommended option
    assert (await Passwords().verify("correct horse", kept)).fits
    assert not (await Passwords().verify("correct horse ", kept)).fits


async def test_two_hashes_of_one_password_differ() -> None:
    assert await Passwords(QUICK).hash("pw") != await Passwords(QUICK).hash("pw")


@pytest.mark.parametrize("kept", [None, "", "no hash at all", "$argon2id$v=19$m=8,t=1,p=1$broken"])
async def test_without_a_valid_hash_no_password_matches(kept: str | None) -> None:
    assert not (await Passwords(QUICK).verify("", kept)).fits


async def test_a_hash_with_other_parameters_matches_and_is_outdated() -> None:
    kept = await Passwords(QUICK).hash("pw")
    dearer = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))

    assert (await dearer.verify("pw", kept)).outdated
    assert not (await Passwords(QUICK).verify("pw", kept)).outdated


async def test_an_unknown_account_costs_as_much_as_a_wrong_password() -> None:
    costly = Passwords(PasswordHasher(time_cost=4, memory_cost=8192, parallelism=1))
    kept = await costly.hash("pw")
    pairs = [(await _processor_seconds(costly, kept), await _processor_seconds(costly, None)) for _ in range(5)]
    known, unknown = (min(seconds) for seconds in zip(*pairs, strict=True))

    assert 0.4 < unknown / known < 2.5, "a check that was skipped would cost nothing"


async def _processor_seconds(checker: Passwords, kept: str | None) -> float:
    start = time.process_time()  # not the clock on the wall: other processes may keep ours waiting
    await checker.verify("wrong", kept)
    return time.process_time() - start


async def test_hashing_does_not_block_the_event_loop() -> None:
    hashing = asyncio.create_task(Passwords().hash("pw"))
    turns = 0
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)

    assert turns > 10


async def test_calls_are_refused_if_too_many_are_waiting() -> None:
    busy = Passwords(QUICK)
    for ask, room in ((busy.hash, passwords.MAX_SET_WAITING), (_check(busy), passwords.MAX_WAITING)):
        outcomes = await asyncio.gather(*(ask("pw") for _ in range(room + 5)), return_exceptions=True)
        assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 5
    assert isinstance(await busy.hash("pw"), str), "the line is free again"


async def test_setting_many_passwords_does_not_block_logins() -> None:
    crowded = Passwords(PasswordHasher(time_cost=2, memory_cost=16384, parallelism=1))
    kept = await crowded.hash("pw")
    crowd = [asyncio.create_task(crowded.hash("pw")) for _ in range(passwords.MAX_SET_WAITING)]
    await asyncio.sleep(0)  # all of them stand in line now
    assert (await crowded.verify("pw", kept)).fits
    served = sum(task.done() for task in crowd)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)

    assert served < 10, "logins waited for registrations"


def _check(checker: Passwords) -> Callable[[str], Awaitable[object]]:
    return lambda password: checker.verify(password, None)
