"""What an operator may do with accounts. An admin always remains."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.accounts_app import BASE_URL, Running, quick_passwords, register
from wherry.accounts.administration import Administration, Standing
from wherry.accounts.models import Registration
from wherry.errors import Conflict, Invalid, NotFound

DEMOTED, INACTIVE = Standing(role="user"), Standing(active=False)


@pytest.fixture
def administration(app: Running) -> Administration:
    return Administration(app.pool, quick_passwords(), BASE_URL)


async def admins(app: Running) -> list[str]:
    return [
        name
        for (name,) in await app.rows("select username from wherry.users where role = 'admin' and active order by 1")
    ]


@pytest.mark.parametrize("change", [DEMOTED, INACTIVE], ids=["demoted", "deactivated"])
async def test_the_last_active_admin_cannot_be_demoted(
    app: Running, client: httpx.AsyncClient, administration: Administration, change: Standing
) -> None:
    for name in ("alice", "bob"):
        await register(client, name)
    await administration.set_standing("bob@example.com", Standing(role="admin"))
    await administration.set_standing("bob@example.com", change)

    with pytest.raises(Conflict, match="last active admin"):
        await administration.set_standing("alice@example.com", change)
    assert await admins(app) == ["alice"]
    await administration.set_standing("bob@example.com", Standing(role="admin", active=True))
    await administration.set_standing("alice@example.com", change)
    assert await admins(app) == ["bob"]


async def test_two_concurrent_demotions_leave_one_admin(
    app: Running, client: httpx.AsyncClient, administration: Administration
) -> None:
    for name in ("alice", "bob"):
        await register(client, name)
    for _ in range(5):
        await app.execute("update wherry.users set role = 'admin', active = true")
        outcomes = await asyncio.gather(
            administration.set_standing("alice@example.com", DEMOTED),
            administration.set_standing("bob@example.com", INACTIVE),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes].count(Conflict) == 1
        assert len(await admins(app)) == 1


async def test_a_change_leaves_all_other_values_unchanged(
    app: Running, client: httpx.AsyncClient, administration: Administration
) -> None:
    await register(client, "alice")
    user = await register(client, "bob")
    await administration.set_standing(str(user["id"]), Standing(operator=True))

    assert await app.rows("select username, role, active, operator from wherry.users order by id") == [
        ("alice", "admin", True, True),
        ("bob", "user", True, True),
    ]


async def test_an_invalid_account_is_refused_by_field(
    client: httpx.AsyncClient, administration: Administration
) -> None:
    await register(client, "alice")
    with pytest.raises(Invalid) as malformed:
        await administration.create(Registration("", "no address", None), Standing())
    assert set(malformed.value.fields) == {"username", "email"}
    with pytest.raises(Invalid) as taken:
        await administration.create(Registration("alice", "Alice@example.com", None), Standing())
    assert set(taken.value.fields) == {"username", "email"}
    with pytest.raises(NotFound, match="there is no account alice"):
        await administration.set_standing("alice", Standing())
