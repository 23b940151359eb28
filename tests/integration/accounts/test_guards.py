"""Which requests each guard accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Request, get, post
from litestar.params import JSONBody

from tests.accounts_app import Running, bearer, register, running
from wherry.accounts.models import Account
from wherry.http.security import authorize_transfer, require_capsule_key

KEY = "the-static-key-of-these-tests-0123456789"


@post("/api/v1/transfer", before_request=authorize_transfer)
async def transfer(request: Request[Account, Any, Any], data: JSONBody[dict[str, Any]]) -> str:
    return request.user.username


@get("/v1/capsule", guards=[require_capsule_key])
async def capsule() -> str:
    return "in"


ROUTES = (transfer, capsule)


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(database_url, tmp_path, routes=ROUTES, capsule_api_key=KEY) as started:
        yield started


async def test_only_a_transfer_role_may_move_records(client: httpx.AsyncClient) -> None:
    alice, bob = await register(client, "alice"), await register(client, "bob")

    async def answer(headers: dict[str, str]) -> httpx.Response:
        return await client.post("/api/v1/transfer", json={}, headers=headers)

    assert (await answer(bearer(alice["token"]))).text == "alice"
    refused = await answer(bearer(bob["token"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    anonymous = await answer({})
    assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, "Bearer")


async def test_every_account_may_move_records_if_every_role_may(database_url: str, tmp_path: Path) -> None:
    async with running(database_url, tmp_path, routes=ROUTES, transfer_roles="user,admin") as app:
        async with app.client() as client:
            for name in ("alice", "bob", "charlie"):
                user = await register(client, name)
                answer = await client.post("/api/v1/transfer", json={}, headers=bearer(user["token"]))
                assert answer.text == name


async def test_a_lost_role_takes_effect_at_the_next_request(app: Running, client: httpx.AsyncClient) -> None:
    alice = await register(client, "alice")
    await app.execute("update wherry.users set role = 'user'")

    answer = await client.post("/api/v1/transfer", json={}, headers=bearer(alice["token"]))
    assert answer.status_code == 403


async def test_an_anonymous_request_is_refused_before_its_body_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/transfer", content=b"{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 401


async def test_the_token_of_a_deleted_account_is_refused(app: Running, client: httpx.AsyncClient) -> None:
    alice = await register(client, "alice")
    await app.execute("delete from wherry.users")

    assert (await client.get("/api/user", headers=bearer(alice["token"]))).status_code == 401


async def test_capsule_routes_accept_only_the_capsule_key(client: httpx.AsyncClient) -> None:
    alice = await register(client, "alice")

    async def answer(*values: str) -> httpx.Response:
        return await client.get("/v1/capsule", headers=[(b"Authorization", value.encode()) for value in values])

    for right in (f"Bearer {KEY}", f"bearer {KEY}"):
        assert (await answer(right)).text == "in"
    near = (f"Bearer {KEY[:-1]}", f"Bearer {KEY}0", f"Token {KEY}", KEY, f"Bearer {KEY} {KEY}", f"Bearer {KEY.upper()}")
    for wrong in ("", "Bearer", "Bearer ", "Bearer ü", *near, f"Bearer {alice['token']}"):
        refused = await answer(wrong)
        assert refused.status_code == 401, wrong
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "UNAUTHORIZED"
    assert (await answer()).status_code == 401


async def test_without_a_configured_key_capsule_routes_refuse_everyone(database_url: str, tmp_path: Path) -> None:
    async with running(database_url, tmp_path, routes=ROUTES) as app, app.client() as client:
        for headers in ({}, bearer(""), bearer("None"), bearer("anything")):
            answer = await client.get("/v1/capsule", headers=headers)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "API_KEY_NOT_CONFIGURED"
            assert int(answer.headers["retry-after"]) > 0
