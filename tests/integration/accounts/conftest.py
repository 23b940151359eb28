"""The application that these tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.accounts_app import Running, running
from tests.postgres import TestServer

EMPTY = (
    "truncate wherry.users, wherry.password_links, wherry.login_addresses, wherry.api_tokens, wherry.rate_limits, "
    "wherry.jobs, wherry.procrastinate_workers restart identity cascade"
)


@pytest.fixture(scope="session")
def accounts_database(postgres_server: TestServer) -> Iterator[str]:
    """One database for all of these tests: emptying it is ten times as fast as creating another."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def database_url(accounts_database: str) -> str:
    """The URL of a migrated, empty database."""
    with psycopg.connect(accounts_database, autocommit=True) as connection:
        connection.execute(EMPTY)
    return accounts_database


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    """The account routes, on the test's own database."""
    async with running(database_url, tmp_path) as started:
        yield started


@pytest.fixture
async def client(app: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client with its own address."""
    async with app.client() as speaking:
        yield speaking
