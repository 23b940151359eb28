"""The application that these tests speak to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.accounts_app import Running, running


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    """The account routes on a database of this test's own."""
    async with running(database_url, tmp_path) as started:
        yield started


@pytest.fixture
async def client(app: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody at one address."""
    async with app.client() as speaking:
        yield speaking
