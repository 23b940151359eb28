"""A database, a store and a pool for imports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.imports.harness import Bench
from wherry.database.pools import make_pool
from wherry.settings import load_settings
from wherry.storage.store import Store


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    settings = load_settings(import_batch_size=100, _env_file=None)
    async with make_pool(database_url, name="imports-test", max_size=5) as pool:
        yield Bench(pool, Store(str(tmp_path / "imports")), settings)


@pytest.fixture
async def authored(bench: Bench) -> Bench:
    """The same bench, with users 1 to 3 as authors of articles."""
    for number in (1, 2, 3):
        await bench.do(
            "insert into wherry.users (id, email, username, name) values (%s, %s, %s, 'Author')",
            number,
            f"author{number}@example.com",
            f"author{number}",
        )
    return bench
