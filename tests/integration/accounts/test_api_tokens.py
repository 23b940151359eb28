"""API tokens: what they may do, what they may not do, and when they end. Alice owns; Bob shares nothing; Charlie is a
stranger."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Request, get

from tests.accounts_app import Running, bearer, register, running
from tests.integration.accounts.test_login import log_in
from tests.problems import NEVER, problem_of
from wherry.accounts import repository
from wherry.accounts.models import Account
from wherry.http.security import authorize_transfer, require_account, require_admin

PATH = "/api/user/tokens"


@get("/api/v1/transfer", before_request=authorize_transfer)
async def transfer(request: Request[Account, Any, Any]) -> str:
    return request.user.username


@get("/api/v1/administer", guards=[require_account, require_admin])
async def administer(request: Request[Account, Any, Any]) -> str:
    return request.user.username


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(database_url, tmp_path, routes=[transfer, administer]) as started:
        yield started


@pytest.fixture
async def people(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Alice, who is an admin, Bob and Charlie, each logged in."""
    return {name: await register(client, name) for name in ("alice", "bob", "charlie")}


@pytest.fixture
def alice(people: dict[str, dict[str, Any]]) -> dict[str, str]:
    return bearer(people["alice"]["token"])


@pytest.fixture
def bob(people: dict[str, dict[str, Any]]) -> dict[str, str]:
    return bearer(people["bob"]["token"])


async def make(client: httpx.AsyncClient, owner: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"name": "nightly", **fields}, headers=owner)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["apiToken"])


async def status(client: httpx.AsyncClient, token: str, path: str = "/api/v1/transfer") -> int:
    return (await client.get(path, headers=bearer(token))).status_code


async def test_a_token_is_shown_once_and_stored_only_as_a_hash(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    answer = await client.post(PATH, json={"name": " nightly "}, headers=alice)
    made = answer.json()["apiToken"]

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert made.keys() == {"id", "name", "prefix", "token", "createdAt", "expiresAt", "lastUsedAt"}
    assert (made["name"], made["expiresAt"], made["lastUsedAt"]) == ("nightly", None, None)
    assert made["token"].startswith("whr_")
    assert made["token"].startswith(made["prefix"])
    assert len(made["prefix"]) < 12 < 43 < len(made["token"])
    listed = await client.get(PATH, headers=alice)
    assert listed.json() == {"apiTokens": [{name: value for name, value in made.items() if name != "token"}]}
    [(kept, row)] = await app.rows("select token_hash, api_tokens::text from wherry.api_tokens")
    assert kept == hashlib.sha256(made["token"].encode()).digest()
    assert made["token"] not in row


async def test_the_fields_of_a_token_may_be_wrapped(client: httpx.AsyncClient, alice: dict[str, str]) -> None:
    body = {"apiToken": {"name": "nightly", "expiresAt": "2999-01-31T12:00:00+02:00"}}
    answer = await client.post(PATH, json=body, headers=alice)

    assert answer.status_code == 201
    assert answer.json()["apiToken"]["expiresAt"] == "2999-01-31T10:00:00.000Z"


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
async def test_a_token_has_the_rights_of_its_owner(
    client: httpx.AsyncClient, alice: dict[str, str], bob: dict[str, str], scheme: str
) -> None:
    tokens = {"alice": (await make(client, alice))["token"], "bob": (await make(client, bob))["token"]}
    for path in ("/api/v1/transfer", "/api/v1/administer"):
        answers = {
            name: await client.get(path, headers={"Authorization": f"{scheme} {token}"})
            for name, token in tokens.items()
        }
        assert answers["alice"].text == "alice"
        problem_of(answers["bob"], 403, "FORBIDDEN")
    who = await client.get("/api/user", headers={"Authorization": f"{scheme} {tokens['bob']}"})
    assert who.json()["user"]["username"] == "bob"


async def test_a_token_neither_manages_tokens_nor_changes_the_account(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    made = await make(client, alice)
    script = bearer(made["token"])
    answers = [
        await client.post(PATH, json={"name": "another"}, headers=script),
        await client.get(PATH, headers=script),
        await client.delete(f"{PATH}/{made['id']}", headers=script),
        await client.put("/api/user", json={"user": {"password": "another"}}, headers=script),
        await client.put("/api/user", json={"user": {"email": "eve@example.com"}}, headers=script),
    ]

    for answer in answers:
        problem_of(answer, 403, "FORBIDDEN")
    assert await app.rows("select count(*) from wherry.api_tokens") == [(1,)]
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_a_token_is_invisible_to_other_accounts(
    client: httpx.AsyncClient, people: dict[str, dict[str, Any]]
) -> None:
    made = await make(client, bearer(people["alice"]["token"]))
    for name in ("bob", "charlie"):
        stranger = bearer(people[name]["token"])
        assert (await client.get(PATH, headers=stranger)).json() == {"apiTokens": []}
        answers = [await client.delete(f"{PATH}/{key}", headers=stranger) for key in (made["id"], NEVER, "no-id", "1")]
        problems = [problem_of(answer, 404, "NOT_FOUND") for answer in answers]
        assert problems == problems[:1] * 4
    problem_of(await client.get(PATH), 401)
    problem_of(await client.delete(f"{PATH}/{made['id']}"), 401)
    assert await status(client, made["token"]) == 200


async def test_a_deleted_token_is_refused(client: httpx.AsyncClient, alice: dict[str, str]) -> None:
    first, second = await make(client, alice), await make(client, alice)
    deleted = await client.delete(f"{PATH}/{first['id']}", headers=alice)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await status(client, first["token"]), await status(client, second["token"])) == (401, 200)
    problem_of(await client.delete(f"{PATH}/{first['id']}", headers=alice), 404)
    assert [token["id"] for token in (await client.get(PATH, headers=alice)).json()["apiTokens"]] == [second["id"]]


async def test_a_token_of_a_deactivated_account_is_refused(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    token = (await make(client, alice))["token"]
    await app.execute("update wherry.users set active = false where username = 'alice'")
    assert await status(client, token) == 401

    await app.execute("delete from wherry.users where username = 'alice'")
    assert await app.rows("select count(*) from wherry.api_tokens") == [(0,)]
    assert await status(client, token) == 401


async def test_an_expired_token_is_refused_and_purged(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    expiring, lasting = await make(client, alice, expiresAt=soon), await make(client, alice)
    assert await status(client, expiring["token"]) == 200
    async with app.pool.connection() as connection:
        assert await repository.purge_expired(connection) == 0
    await app.execute("update wherry.api_tokens set expires_at = now() where id = %s", expiring["id"])

    assert (await status(client, expiring["token"]), await status(client, lasting["token"])) == (401, 200)
    problem_of(await client.delete(f"{PATH}/{expiring['id']}", headers=alice), 404)
    async with app.pool.connection() as connection:
        assert await repository.purge_expired(connection) == 1
    assert [token["id"] for token in (await client.get(PATH, headers=alice)).json()["apiTokens"]] == [lasting["id"]]


async def test_a_new_password_does_not_affect_api_tokens(client: httpx.AsyncClient, alice: dict[str, str]) -> None:
    token = (await make(client, alice))["token"]
    assert (await client.put("/api/user", json={"user": {"password": "another"}}, headers=alice)).status_code == 200

    assert await status(client, token) == 200


async def test_a_token_loses_a_role_together_with_its_owner(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    token = (await make(client, alice))["token"]
    await app.execute("update wherry.users set role = 'user'")

    assert await status(client, token) == 403


async def test_the_last_use_of_a_token_is_recorded_at_most_once_per_minute(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str]
) -> None:
    token = (await make(client, alice))["token"]

    async def noted() -> datetime:
        [(moment,)] = await app.rows("select last_used_at from wherry.api_tokens")
        return moment  # type: ignore[no-any-return]

    await status(client, token)
    first = await noted()
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
    await asyncio.gather(*(status(client, token) for _ in range(5)))
    assert await noted() == first
    await app.execute("update wherry.api_tokens set last_used_at = last_used_at - interval '61 seconds'")
    await status(client, token)
    assert await noted() > first
    [shown] = (await client.get(PATH, headers=alice)).json()["apiTokens"]
    assert shown["lastUsedAt"].endswith("Z")


async def test_an_account_has_at_most_fifty_unexpired_tokens(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str], bob: dict[str, str]
) -> None:
    answers = await asyncio.gather(
        *(client.post(PATH, json={"name": f"{number}"}, headers=alice) for number in range(52))
    )
    refused = [answer for answer in answers if answer.status_code != 201]

    assert len(refused) == 2
    for answer in refused:
        assert "at most 50" in problem_of(answer, 409, "CONFLICT")["detail"]
    await make(client, bob)
    await app.execute("update wherry.api_tokens set expires_at = now() where name = '7'")
    await make(client, alice)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({}, {"name"}),
        ({"name": None}, {"name"}),
        ({"name": " \t"}, {"name"}),
        ({"name": "n" * 101}, {"name"}),
        ({"name": "nul\0"}, {"name"}),
        ({"name": 5}, {"name"}),
        ({"apiToken": {"name": 5, "expiresAt": 5}}, {"name", "expiresAt"}),
        ({"name": "n", "expiresAt": "2001-01-31T12:00:00Z"}, {"expiresAt"}),
        ({"name": "n", "expiresAt": "2999-01-31"}, {"expiresAt"}),
        ({"name": "n", "expiresAt": "2999-01-31T12:00:00"}, {"expiresAt"}),
        ({"name": "n", "expiresAt": "9999-12-31T23:59:59-23:00"}, {"expiresAt"}),
        ({"name": "n", "expiresAt": ""}, {"expiresAt"}),
        ({"name": "n", "expiresAt": "tomorrow"}, {"expiresAt"}),
        ({"name": "", "expiresAt": "tomorrow"}, {"name", "expiresAt"}),
    ],
)
async def test_every_invalid_field_is_reported(
    app: Running, client: httpx.AsyncClient, alice: dict[str, str], fields: dict[str, Any], at_fault: set[str]
) -> None:
    answer = await client.post(PATH, json=fields, headers=alice)

    assert set(problem_of(answer, 422, "VALIDATION_FAILED")["errors"]) == at_fault
    assert await app.rows("select count(*) from wherry.api_tokens") == [(0,)]


async def test_the_longest_name_is_accepted(client: httpx.AsyncClient, alice: dict[str, str]) -> None:
    assert (await make(client, alice, name="é" * 100))["name"] == "é" * 100
