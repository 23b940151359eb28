"""Whether the readers of event streams may still read is checked for all of them together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.accounts_app import Running, bearer, register
from wherry.accounts.readers import Readers
from wherry.waiting import in_background


async def credentials(client: httpx.AsyncClient, name: str) -> tuple[str, str]:
    """A JWT and an API token of a new account."""
    jwt = (await register(client, name))["token"]
    made = await client.post("/api/user/tokens", json={"name": "t"}, headers=bearer(jwt))
    return jwt, made.json()["apiToken"]["token"]


async def test_valid_credentials_are_found_in_one_check(app: Running, client: httpx.AsyncClient) -> None:
    alice, bob = await credentials(client, "alice"), await credentials(client, "bob")
    expired = app.parts.accounts.tokens.issue(1, now=datetime.now(UTC) - timedelta(days=2))
    found = await app.parts.accounts.authenticate_all([*alice, *bob, expired, "nonsense", "whr_nonsense"])
    assert {token: account.username for token, account in found.items()} == {
        **dict.fromkeys(alice, "alice"),
        **dict.fromkeys(bob, "bob"),
    }
    for token, account in found.items():
        assert account == (await app.parts.accounts.authenticate(token))[0]


ENDS: dict[str, tuple[str, set[int]]] = {
    "deactivated": ("update wherry.users set active = false where username = 'alice'", set()),
    "deleted": ("delete from wherry.users where username = 'alice'", set()),
    "new password": ("update wherry.users set password_changed_at = now() + interval '1 s'", {1}),
    "token deleted": ("delete from wherry.api_tokens", {0}),
    "token expired": ("update wherry.api_tokens set expires_at = now()", {0}),
}


@pytest.mark.parametrize(("statement", "left"), ENDS.values(), ids=ENDS)
async def test_a_credential_that_is_no_longer_valid_is_not_found(
    app: Running, client: httpx.AsyncClient, statement: str, left: set[int]
) -> None:
    alice = await credentials(client, "alice")
    await app.execute(statement)
    found = await app.parts.accounts.authenticate_all(alice)
    assert found.keys() == {alice[number] for number in left}


async def test_a_reader_is_woken_if_the_account_has_changed(
    app: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.accounts.readers.CHECK_SECONDS", 0.05)
    readers = Readers(app.parts.accounts)
    jwt = (await register(client, "alice"))["token"]
    account, _ = await app.parts.accounts.authenticate(jwt)
    wakes = [asyncio.Event(), asyncio.Event()]
    async with in_background(readers.run(), name="readers"):
        with readers.reading(account, jwt, wakes[0]) as one, readers.reading(account, jwt, wakes[1]) as other:
            for change, expected in (("operator = false", False), ("active = false", None)):
                await app.execute(f"update wherry.users set {change}")
                await asyncio.wait_for(asyncio.gather(*(wake.wait() for wake in wakes)), 10)
                assert [_operator(reader.account) for reader in (one, other)] == [expected] * 2
                for wake in wakes:
                    wake.clear()


def _operator(account: Any) -> bool | None:
    return None if account is None else account.operator
