"""Attacks on accounts."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from litestar import Litestar
from litestar.datastructures import State

from tests.accounts_app import SECRET, Running, bearer, register, running
from wherry.accounts.login import Logins
from wherry.accounts.passwords import Passwords
from wherry.accounts.service import Accounts
from wherry.accounts.tokens import Tokens
from wherry.http.accounts import account_routes
from wherry.http.framework import litestar_options

pytestmark = pytest.mark.security

HOSTILE = [
    "' or '1'='1",
    "'; drop table users; --",
    "%(email)s",
    "%s%s%s",
    "\\",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "\u202emoc.elpmaxe",
    "\ufeff",
    "𝕬𝖑𝖎𝖈𝖊",
    "a" * 60_000,
    "\r\nSet-Cookie: a=b",
    "\x00",
    "\x1b[31m",
]


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(database_url, tmp_path) as started:
        yield started


@pytest.fixture
async def client(app: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as speaking:
        yield speaking


def _encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


async def test_forged_tokens_are_refused(client: httpx.AsyncClient) -> None:
    genuine = (await register(client, "alice"))["token"]
    header, payload, signature = genuine.split(".")
    now = datetime.now(UTC)
    claims: dict[str, Any] = {"sub": "1", "iat": now, "exp": now + timedelta(hours=1)}
    forged = [
        f"{_encoded({'alg': 'none'})}.{payload}.",
        f"{_encoded({'alg': 'none'})}.{payload}.{signature}",
        f"{_encoded({'alg': 'HS256'})}.{_encoded({'sub': '1', 'exp': 4102444800, 'iat': 0})}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        jwt.encode(claims, SECRET * 2, "HS512"),
        jwt.encode(claims, "another secret that is longer than 32 bytes"),
        jwt.encode({**claims, "exp": now - timedelta(minutes=1)}, SECRET),
        jwt.encode({"sub": "1"}, SECRET),
        jwt.encode({**claims, "sub": "999"}, SECRET),
        jwt.encode(claims, SECRET, headers={"crit": ["x"], "x": 1}),
        "[" * 4000,
        "whr_",
        "whr_" + "A" * 43,
        "whr_' or true --",
        "WHR_" + genuine,
        "whr_" + genuine,
        base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".e30.e30",
    ]

    for token in forged:
        for scheme in ("Bearer", "Token"):
            answer = await client.get("/api/user", headers={"Authorization": f"{scheme} {token}"})
            assert answer.status_code == 401, token[:80]
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await client.get("/api/user", headers=bearer(genuine))).status_code == 200


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_text_in_any_field_causes_a_server_error(app: Running, client: httpx.AsyncClient, text: str) -> None:
    alice = await register(client, "alice")
    sent: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/users", {"user": {"username": text, "email": text, "password": text}}),
        ("POST", "/api/users", {"user": {"username": text, "email": "b@example.com", "password": "pw", "bio": text}}),
        ("POST", "/api/users/login", {"user": {"email": text, "password": text}}),
        ("PUT", "/api/user", {"user": {"email": text}}),
        ("PUT", "/api/user", {"user": {"username": text, "bio": text, "image": text}}),
        ("PUT", "/api/user", {"user": {text: text}}),
        ("POST", "/api/users/password/reset", {"email": text}),
        ("POST", "/api/users/password", {"token": text, "password": text}),
        ("POST", "/api/user/tokens", {"name": text, "expiresAt": text}),
        ("POST", "/api/user/tokens", {"apiToken": {"name": text}}),
        ("DELETE", f"/api/user/tokens/{quote(text[:100], safe='')}", {}),
    ]
    for method, path, body in sent:
        answer = await client.request(method, path, json=body, headers=bearer(alice["token"]))
        assert answer.status_code < 500, (method, path, answer.text[:300])
        assert "set-cookie" not in answer.headers

    assert await app.rows("select role from wherry.users where id = 1") == [("admin",)]


async def test_the_time_of_a_login_does_not_reveal_whether_the_address_is_known(
    app: Running,
) -> None:
    """With real password hashing, over the whole route. Compares medians, as other processes disturb the timing."""
    costly, tokens = Passwords(), Tokens(SECRET, timedelta(hours=1))
    parts = app.parts
    parts = replace(parts, accounts=Accounts(parts.pool, costly, tokens), logins=Logins(parts.pool, costly, tokens))
    slow = Running(Litestar(account_routes(), state=State({"services": parts}), **litestar_options()), app.pool, parts)
    await app.execute("insert into wherry.users (email, username, name) values ('i@example.com', 'i', 'I')")
    async with slow.client() as client:
        await register(client, "alice")

    async def seconds(email: str, number: int) -> float:
        async with slow.client(f"203.0.113.{number}") as stranger:
            start = time.perf_counter()
            answer = await stranger.post("/api/users/login", json={"user": {"email": email, "password": "wrong"}})
            assert answer.status_code == 403
            return time.perf_counter() - start

    times: dict[str, list[float]] = {"alice@example.com": [], "nobody@example.com": [], "i@example.com": []}
    for number in range(9):
        for email, measured in times.items():
            measured.append(await seconds(email, number))
    medians = {email: statistics.median(measured) for email, measured in times.items()}

    assert max(medians.values()) < 2 * min(medians.values()), medians


async def test_guesses_from_many_addresses_never_exceed_the_quota(app: Running) -> None:
    async with app.client() as client:
        await register(client, "alice")

    async def guess(number: int) -> int:
        async with app.client(f"203.0.113.{number}") as stranger:
            body = {"user": {"email": "alice@example.com", "password": f"guess {number}"}}
            return (await stranger.post("/api/users/login", json=body)).status_code

    statuses = await asyncio.gather(*(guess(number) for number in range(60)))

    assert (statuses.count(403), statuses.count(429)) == (10, 50)


async def test_a_token_gives_no_access_to_other_accounts(client: httpx.AsyncClient) -> None:
    people = {name: await register(client, name) for name in ("alice", "bob", "charlie")}
    charlie = bearer(people["charlie"]["token"])
    await client.put("/api/user", json={"user": {"id": 1, "bio": "changed", "role": "admin"}}, headers=charlie)

    for name in ("alice", "bob"):
        assert (await client.get("/api/user", headers=bearer(people[name]["token"]))).json()["user"] == people[name]
    assert (await client.post("/api/v1/users/1/onboarding-link", headers=charlie)).status_code == 403


async def test_fifty_concurrent_first_registrations_create_one_admin(app: Running, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(register(client, f"first{number}") for number in range(50)))

    assert await app.rows("select count(*) from wherry.users where role = 'admin'") == [(1,)]
