"""Logins that succeed, and the responses to those that do not."""

from __future__ import annotations

import httpx
from argon2 import PasswordHasher

from tests.accounts_app import Running, bearer, register

WRONG = {"email or password": ["is invalid"]}


async def log_in(client: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await client.post("/api/users/login", json={"user": {"email": email, "password": password}})


async def test_a_login_ignores_the_case_of_the_address(client: httpx.AsyncClient) -> None:
    await register(client, "alice", bio="a bio")
    answer = await log_in(client, " ALICE@Example.com ", "alice's password")

    assert answer.status_code == 200
    user = answer.json()["user"]
    assert {**user, "token": "…"} == {
        "id": 1,
        "email": "alice@example.com",
        "username": "alice",
        "bio": "a bio",
        "image": None,
        "token": "…",
    }
    assert (await client.get("/api/user", headers=bearer(user["token"]))).status_code == 200


async def test_a_failed_login_does_not_reveal_whether_the_address_is_known(
    client: httpx.AsyncClient,
) -> None:
    await register(client, "alice")
    wrong = await log_in(client, "alice@example.com", "bob's password")
    unknown = await log_in(client, "nobody@example.com", "alice's password")
    unstorable = await log_in(client, "nul\0@example.com", "pw\0")

    for answer in (wrong, unknown, unstorable):
        assert answer.status_code == 403
        assert answer.json()["errors"] == WRONG
    assert wrong.json() == unknown.json()


async def test_a_password_works_only_for_its_own_account(client: httpx.AsyncClient) -> None:
    for name in ("alice", "bob", "charlie"):
        await register(client, name)

    assert (await log_in(client, "bob@example.com", "alice's password")).status_code == 403
    assert (await log_in(client, "bob@example.com", "bob's password")).json()["user"]["username"] == "bob"


async def test_blank_fields_are_reported(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/users/login", json={"user": {"email": " "}})

    assert answer.status_code == 422
    assert answer.json()["errors"] == {"email": ["can't be blank"], "password": ["can't be blank"]}


async def test_a_login_to_an_imported_account_reports_that_it_has_no_password(
    app: Running, client: httpx.AsyncClient
) -> None:
    await app.execute("insert into wherry.users (email, username, name) values ('i@example.com', 'i@example.com', 'I')")
    answer = await log_in(client, "i@example.com", "anything")

    assert answer.status_code == 403
    assert answer.json()["code"] == "PASSWORD_NOT_SET"


async def test_an_inactive_account_cannot_log_in_and_looks_like_an_unknown_one(
    app: Running, client: httpx.AsyncClient
) -> None:
    user = await register(client, "alice")
    await app.execute("update wherry.users set active = false")
    await app.execute(
        "insert into wherry.users (email, username, name, active) values ('i@example.com', 'i', 'I', false)"
    )

    assert (await log_in(client, "alice@example.com", "alice's password")).json()["errors"] == WRONG
    assert (await log_in(client, "i@example.com", "anything")).json()["errors"] == WRONG
    assert (await client.get("/api/user", headers=bearer(user["token"]))).status_code == 401


async def test_a_hash_with_outdated_parameters_is_replaced_at_the_next_login(
    app: Running, client: httpx.AsyncClient
) -> None:
    await register(client, "alice")
    older = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash("alice's password")
    await app.execute("update wherry.users set password_hash = %s", older)

    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200
    [(kept,)] = await app.rows("select password_hash from wherry.users")
    assert kept.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_passwords_are_stored_only_as_hashes(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")

    assert "alice's password" not in str(await app.rows("select users::text from wherry.users"))
