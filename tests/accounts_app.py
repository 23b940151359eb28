"""An application of the account and health routes alone, on a real database, for tests.

In: a database's URL. Out: an httpx client that speaks to it in the same process, and the parts it is made of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from litestar import Litestar
from litestar.datastructures import State

from wherry.accounts.api_tokens import ApiTokens
from wherry.accounts.links import PasswordLinks
from wherry.accounts.login import Logins
from wherry.accounts.mail import Mailer
from wherry.accounts.passwords import Passwords
from wherry.accounts.service import Accounts
from wherry.accounts.tokens import Tokens
from wherry.database.pools import Pool, make_pool
from wherry.http.accounts import account_routes
from wherry.http.framework import litestar_options
from wherry.http.health import health_router
from wherry.settings import Settings, load_settings
from wherry.storage.store import Store

SECRET = "a secret of tests that is longer than 32 bytes"
BASE_URL = "https://wherry.example"


def quick_passwords() -> Passwords:
    """Argon2id at its least cost: these tests are not about how long a guess takes."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@dataclass(frozen=True)
class Parts:
    """What `Services` holds of what the routes under test use."""

    settings: Settings
    pool: Pool
    import_store: Store
    export_store: Store
    capsule_store: Store
    accounts: Accounts
    logins: Logins
    password_links: PasswordLinks
    api_tokens: ApiTokens
    capsule_api_key: str | None


@dataclass(frozen=True)
class Running:
    """The application, and ways to speak to it."""

    app: Litestar
    pool: Pool
    parts: Parts

    def client(self, address: str = "198.51.100.7") -> httpx.AsyncClient:
        """A client that comes from an address."""
        transport = httpx.ASGITransport(app=self.app, client=(address, 50000))  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    async def execute(self, statement: str, *values: object) -> None:
        """Run SQL behind the application's back."""
        async with self.pool.connection() as connection:
            await connection.execute(statement.encode(), values)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Read what is in the tables."""
        async with self.pool.connection() as connection:
            return await (await connection.execute(statement.encode(), values)).fetchall()


@asynccontextmanager
async def running(
    database_url: str,
    folder: Path,
    *,
    mailer: Mailer | None = None,
    capsule_api_key: str | None = None,
    routes: Sequence[Any] = (),
    **settings: Any,
) -> AsyncIterator[Running]:
    """Start the application; leaving the context closes its pool."""
    async with make_pool(database_url, name="wherry tests", max_size=8) as pool:
        passwords, tokens = quick_passwords(), Tokens(SECRET, timedelta(hours=24))
        parts = Parts(
            settings=load_settings(jwt_secret=SECRET, database_url=database_url, **settings),
            pool=pool,
            import_store=Store(str(folder / "imports")),
            export_store=Store(str(folder / "exports")),
            capsule_store=Store(str(folder / "capsules")),
            accounts=Accounts(pool, passwords, tokens),
            logins=Logins(pool, passwords, tokens),
            password_links=PasswordLinks(pool, passwords, tokens, base_url=BASE_URL, mailer=mailer),
            api_tokens=ApiTokens(pool),
            capsule_api_key=capsule_api_key,
        )
        handlers = [*account_routes(), health_router, *routes]
        yield Running(Litestar(handlers, state=State({"services": parts}), **litestar_options()), pool, parts)


async def register(client: httpx.AsyncClient, name: str, **more: str) -> dict[str, Any]:
    """Register somebody as `{name}@example.com` with the password `{name}'s password`; the `user` of the answer."""
    fields = {"username": name, "email": f"{name}@example.com", "password": f"{name}'s password", **more}
    answer = await client.post("/api/users", json={"user": fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["user"])


def bearer(token: str) -> dict[str, str]:
    """The header that a token is sent in."""
    return {"Authorization": f"Bearer {token}"}
