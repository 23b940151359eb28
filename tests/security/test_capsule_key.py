"""Guesses of the capsule key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from litestar import get

from tests.accounts_app import Running, running
from tests.integration.accounts.conftest import accounts_database, database_url  # noqa: F401
from wherry.accounts.capsule_key import warn_if_short
from wherry.http.security import require_capsule_key

pytestmark = pytest.mark.security

KEY = "the right key, which is long"


@get("/v1/guarded", guards=[require_capsule_key])
async def guarded() -> None:
    """A capsule route."""


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:  # noqa: F811
    async with running(database_url, tmp_path, capsule_api_key=KEY, routes=[guarded]) as started:
        yield started


async def try_key(app: Running, key: str, address: str = "203.0.113.1") -> int:
    async with app.client(address) as client:
        answer = await client.get("/v1/guarded", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code != 429 or int(answer.headers["retry-after"]) > 200
    return answer.status_code


async def test_wrong_keys_are_limited_per_address_and_the_right_one_works_from_others(app: Running) -> None:
    guesses = [await try_key(app, f"guess {number}") for number in range(25)]

    assert guesses == [401] * 20 + [429] * 5
    assert await try_key(app, KEY) == 429, "the next guess might have been right"
    assert await try_key(app, KEY, "198.51.100.7") == 200


async def test_right_keys_are_not_counted(app: Running) -> None:
    assert {await try_key(app, KEY) for _ in range(30)} == {200}
    assert await app.rows("select count(*) from wherry.rate_limits") == [(0,)]


async def test_guessing_keys_in_parallel_is_no_faster(app: Running) -> None:
    statuses = await asyncio.gather(*(try_key(app, f"guess {number}") for number in range(60)))

    assert (statuses.count(401), statuses.count(429)) == (20, 40)


async def test_an_ipv6_network_counts_as_one_address(app: Running) -> None:
    guesses = [await try_key(app, "a guess", f"2001:db8:1:2::{number:x}") for number in range(21)]

    assert guesses == [401] * 20 + [429]
    assert await try_key(app, KEY, "2001:db8:1:3::1") == 200


@pytest.mark.parametrize(("key", "warnings"), [("k" * 15, 1), ("k" * 16, 0), (None, 0)])
def test_a_short_key_logs_a_warning(key: str | None, warnings: int) -> None:
    with structlog.testing.capture_logs() as logged:
        warn_if_short(key)

    assert [entry["log_level"] for entry in logged] == ["warning"] * warnings
    assert all("MEMVID_EXPORT_API_KEY" in entry["event"] and (key or "") not in entry["event"] for entry in logged)
