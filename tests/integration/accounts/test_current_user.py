"""The caller's own account."""

from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest

from tests.accounts_app import SECRET, Running, bearer, register
from tests.integration.accounts.test_login import log_in
from tests.problems import problem_of


async def change(client: httpx.AsyncClient, token: str, **fields: Any) -> httpx.Response:
    return await client.put("/api/user", json={"user": fields}, headers=bearer(token))


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer", "TOKEN"])
async def test_both_authorization_schemes_are_accepted(client: httpx.AsyncClient, scheme: str) -> None:
    user = await register(client, "alice")
    answer = await client.get("/api/user", headers={"Authorization": f"{scheme} {user['token']}"})

    assert answer.status_code == 200
    assert answer.json() == {"user": user}


async def test_each_token_belongs_to_its_own_account(client: httpx.AsyncClient) -> None:
    users = [await register(client, name) for name in ("alice", "bob", "charlie")]

    for user in users:
        assert (await client.get("/api/user", headers=bearer(user["token"]))).json()["user"] == user


async def test_each_field_can_be_changed_on_its_own(client: httpx.AsyncClient) -> None:
    user = await register(client, "alice", bio="before")
    for fields in (
        {"email": "Alicia@Example.com"},
        {"username": "alicia"},
        {"bio": "after"},
        {"image": "https://example.com/a.png"},
    ):
        answer = await change(client, user["token"], **fields)
        assert answer.status_code == 200

    assert answer.json()["user"] == {
        "id": user["id"],
        "email": "alicia@example.com",
        "username": "alicia",
        "bio": "after",
        "image": "https://example.com/a.png",
        "token": user["token"],
    }


@pytest.mark.parametrize("empty", [None, ""])
async def test_an_empty_bio_or_image_becomes_null_and_an_empty_password_is_ignored(
    client: httpx.AsyncClient, empty: str | None
) -> None:
    user = await register(client, "alice", bio="b", image="i")
    answer = await change(client, user["token"], bio=empty, image=empty, password=empty)

    assert answer.json()["user"] == {**user, "bio": None, "image": None}
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_a_new_password_invalidates_all_older_tokens(client: httpx.AsyncClient) -> None:
    user = await register(client, "alice")
    elsewhere = (await log_in(client, "alice@example.com", "alice's password")).json()["user"]["token"]
    fresh = (await change(client, user["token"], password="another")).json()["user"]["token"]

    for token in (user["token"], elsewhere):
        problem_of(await client.get("/api/user", headers=bearer(token)), 401, field="token")
    assert (await client.get("/api/user", headers=bearer(fresh))).json()["user"] == {**user, "token": fresh}
    later = (await log_in(client, "alice@example.com", "another")).json()["user"]["token"]
    assert (await client.get("/api/user", headers=bearer(later))).status_code == 200


async def test_the_token_contains_the_accounts_id_as_a_number(client: httpx.AsyncClient) -> None:
    user = await register(client, "alice")
    again = (await log_in(client, "alice@example.com", "alice's password")).json()["user"]

    for session in (user, again):
        claims = jwt.decode(session["token"], SECRET, ["HS256"])
        assert (claims["user"], claims["sub"]) == ({"id": session["id"]}, str(session["id"]))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "is missing"),
        ({"Authorization": "Bearer"}, "is missing"),
        ({"Authorization": "Basic YTpi"}, "is missing"),
        ({"Authorization": "Bearer nonsense"}, "is invalid"),
        ({"Authorization": "Token whr_nonsense"}, "is invalid"),
        ({"Authorization": "Token whr_\u00e9"}, "is invalid"),
    ],
)
async def test_a_401_says_what_is_wrong_with_the_credential(
    client: httpx.AsyncClient, headers: dict[str, str], said: str
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    problem = problem_of(await client.get("/api/user", headers=raw), 401, "UNAUTHORIZED")  # type: ignore[arg-type]

    assert problem["errors"] == {"token": [said]}
    assert problem["message"] == "missing authorization credentials"


async def test_only_the_new_password_works_after_a_change(client: httpx.AsyncClient) -> None:
    user = await register(client, "alice")
    assert (await change(client, user["token"], password="another")).status_code == 200

    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 403
    assert (await log_in(client, "alice@example.com", "another")).status_code == 200


async def test_names_of_other_accounts_are_refused_but_ones_own_are_accepted(
    client: httpx.AsyncClient,
) -> None:
    user = await register(client, "alice")
    await register(client, "bob")
    await register(client, "charlie")
    answer = await change(client, user["token"], email="BOB@example.com", username="charlie")

    assert answer.status_code == 422
    taken = ["has already been taken"]
    assert answer.json()["errors"] == {"email": taken, "username": taken}
    assert (await change(client, user["token"], email="ALICE@example.com", username="alice")).status_code == 200


@pytest.mark.parametrize("blank", [None, "", " "])
async def test_a_blank_email_or_username_is_refused_and_nothing_is_changed(
    client: httpx.AsyncClient, blank: str | None
) -> None:
    user = await register(client, "alice")
    answer = await change(client, user["token"], email=blank, username=blank, bio="new")

    assert answer.status_code == 422
    assert answer.json()["errors"] == {"email": ["can't be blank"], "username": ["can't be blank"]}
    assert (await client.get("/api/user", headers=bearer(user["token"]))).json()["user"] == user


async def test_users_cannot_change_their_own_role(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    user = await register(client, "bob", role="admin")
    await change(client, user["token"], role="admin", active=False, id=1, name="x")

    assert await app.rows("select role, active from wherry.users where username = 'bob'") == [("user", True)]


async def test_the_name_follows_the_username_unless_it_differs(app: Running, client: httpx.AsyncClient) -> None:
    user = await register(client, "alice")
    await change(client, user["token"], username="alicia")
    assert await app.rows("select name from wherry.users") == [("alicia",)]

    await app.execute("update wherry.users set name = 'Alice Liddell'")
    await change(client, user["token"], username="alice")
    assert await app.rows("select name from wherry.users") == [("Alice Liddell",)]
