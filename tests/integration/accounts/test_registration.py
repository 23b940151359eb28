"""Who gets an account, and which role."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.accounts_app import BASE_URL, Running, bearer, register, running
from tests.integration.accounts.test_login import log_in
from tests.problems import problem_of

FIRST = {"username": "alice", "email": "alice@example.com", "password": "pw"}


async def test_the_first_account_of_an_empty_system_is_an_admin_and_later_ones_are_users(
    app: Running, client: httpx.AsyncClient
) -> None:
    for name in ("alice", "bob", "charlie"):
        await register(client, name)

    assert await app.rows("select username, role from wherry.users order by id") == [
        ("alice", "admin"),
        ("bob", "user"),
        ("charlie", "user"),
    ]


async def test_the_first_account_alone_is_an_operator(app: Running, client: httpx.AsyncClient) -> None:
    for name in ("alice", "bob", "charlie"):
        await register(client, name, operator="true")

    assert await app.rows("select username from wherry.users where operator") == [("alice",)]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://test:8080", "http://test.evil.example", "http://", "nonsense"]
)
async def test_a_foreign_page_cannot_register_the_first_account(
    app: Running, client: httpx.AsyncClient, origin: str
) -> None:
    answer = await client.post("/api/users", json={"user": FIRST}, headers={"Origin": origin})

    problem = problem_of(answer, 403, "FORBIDDEN")
    assert origin in problem["detail"]
    assert "PUBLIC_URL" in problem["detail"]
    assert await app.rows("select count(*) from wherry.users") == [(0,)]


async def test_a_foreign_page_can_register_later_accounts(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "bob")
    answer = await client.post("/api/users", json={"user": FIRST}, headers={"Origin": "https://app.example"})

    assert answer.status_code == 201
    assert await app.rows("select role, operator from wherry.users where username = 'alice'") == [("user", False)]


@pytest.mark.parametrize("origin", [BASE_URL, f"{BASE_URL}:443"])
async def test_a_page_of_the_public_url_can_register_the_first_account(
    database_url: str, tmp_path: Path, origin: str
) -> None:
    async with running(database_url, tmp_path, public_url=f"{BASE_URL}/below") as app, app.client() as client:
        answer = await client.post("/api/users", json={"user": FIRST}, headers={"Origin": origin})

    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("localhost", "https://LOCALHOST:443"),
        ("ferry.lan:3000", "http://ferry.lan:3000"),
    ],
)
async def test_a_page_of_the_servers_own_address_can_register_the_first_account(
    database_url: str, tmp_path: Path, host: str, origin: str
) -> None:
    async with running(database_url, tmp_path, host="ferry.lan") as app, app.client() as client:
        answer = await client.post("/api/users", json={"user": FIRST}, headers={"Origin": origin, "Host": host})

    assert answer.status_code == 201


@pytest.mark.parametrize("settings", [{}, {"public_url": BASE_URL}], ids=["no PUBLIC_URL", "PUBLIC_URL"])
async def test_dns_rebinding_cannot_register_the_first_account(
    database_url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    async with running(database_url, tmp_path, **settings) as app, app.client() as client:
        problem_of(await client.post("/api/users", json={"user": FIRST}, headers=rebound), 403, "FORBIDDEN")
        assert await app.rows("select count(*) from wherry.users") == [(0,)]


async def test_closed_registration_refuses_everyone_even_the_first(database_url: str, tmp_path: Path) -> None:
    async with running(database_url, tmp_path, registration="closed") as app, app.client() as client:
        for body in ({"user": FIRST}, {}):
            problem = problem_of(await client.post("/api/users", json=body), 403, "FORBIDDEN")
            assert "wherry users create" in problem["detail"]
        assert await app.rows("select count(*) from wherry.users") == [(0,)]


async def test_concurrent_first_registrations_create_one_admin(app: Running, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(register(client, f"first{number}") for number in range(8)))

    assert await app.rows("select count(*), count(*) filter (where role = 'admin') from wherry.users") == [(8, 1)]


async def test_a_system_with_imported_accounts_is_not_empty(app: Running, client: httpx.AsyncClient) -> None:
    await app.execute("insert into wherry.users (email, username, name) values ('i@example.com', 'i@example.com', 'I')")
    await register(client, "alice")

    assert await app.rows("select role from wherry.users where username = 'alice'") == [("user",)]


async def test_a_registration_returns_the_account_and_a_valid_token(client: httpx.AsyncClient) -> None:
    fields = {"username": " alice ", "email": " Alice@Example.COM ", "password": "pw", "bio": "a bio", "image": ""}
    answer = await client.post("/api/users", json={"user": fields})
    user = answer.json()["user"]

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert {**user, "token": "…"} == {
        "id": 1,
        "email": "alice@example.com",
        "username": "alice",
        "bio": "a bio",
        "image": None,
        "token": "…",
    }
    assert (await client.get("/api/user", headers=bearer(user["token"]))).json() == {"user": user}


async def test_the_name_of_a_new_account_is_its_username(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")

    assert await app.rows("select name from wherry.users") == [("alice",)]


async def test_every_blank_field_is_reported_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/users", json={"user": {"username": "  ", "password": None}})

    assert answer.status_code == 422
    blank = ["can't be blank"]
    assert answer.json()["errors"] == {"username": blank, "email": blank, "password": blank}


async def test_a_taken_email_and_a_taken_username_are_reported_together_whatever_their_case(
    client: httpx.AsyncClient,
) -> None:
    await register(client, "alice")
    await register(client, "bob")
    fields = {"username": "alice", "email": "BOB@example.com", "password": "pw"}
    answer = await client.post("/api/users", json={"user": fields})

    assert answer.status_code == 422
    taken = ["has already been taken"]
    assert answer.json()["errors"] == {"email": taken, "username": taken}


async def test_an_address_is_one_account_in_any_unicode_composition(app: Running, client: httpx.AsyncClient) -> None:
    forms = ["jose\u0301@example.com", "jos\u00e9@example.com"]
    created, refused = [
        await client.post("/api/users", json={"user": {"username": f"u{number}", "email": email, "password": "pw"}})
        for number, email in enumerate(forms)
    ]

    assert (created.status_code, refused.status_code) == (201, 422)
    assert refused.json()["errors"] == {"email": ["has already been taken"]}
    assert await app.rows("select email from wherry.users") == [("jos\u00e9@example.com",)]
    assert [(await log_in(client, email, "pw")).status_code for email in forms] == [200, 200]


async def test_concurrent_equal_registrations_create_one_account(
    client: httpx.AsyncClient,
) -> None:
    fields = {"username": "alice", "email": "alice@example.com", "password": "pw"}
    answers = await asyncio.gather(*(client.post("/api/users", json={"user": fields}) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422, 422, 422]
    for answer in answers:
        if answer.status_code == 422:
            assert "has already been taken" in str(answer.json()["errors"])


async def test_an_imported_account_cannot_be_taken_over_by_registering(app: Running, client: httpx.AsyncClient) -> None:
    await app.execute("insert into wherry.users (email, username, name) values ('i@example.com', 'i@example.com', 'I')")
    fields = {"username": "eve", "email": "i@example.com", "password": "pw"}
    answer = await client.post("/api/users", json={"user": fields})

    assert answer.json()["errors"] == {"email": ["has already been taken"]}


async def test_an_invalid_value_is_refused_by_field(client: httpx.AsyncClient) -> None:
    for fields in ({"username": "nul\0"}, {"bio": "b" * 5001}, {"username": 5, "bio": []}, {"email": "no address"}):
        good = {"username": "alice", "email": "alice@example.com", "password": "pw"}
        answer = await client.post("/api/users", json={"user": {**good, **fields}})

        assert answer.status_code == 422
        assert set(answer.json()["errors"]) == set(fields)
