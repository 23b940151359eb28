"""A schema of a user's own, with many kinds of tables, keys and columns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wherry.database.pools import Pool, make_pool

SHOP = Path(__file__).with_name("shop.sql")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool on a database with the schema `shop`."""
    async with make_pool(database_url, name="tests", max_size=4) as opened:
        async with opened.connection() as connection:
            await connection.execute(SHOP.read_bytes())
        yield opened
