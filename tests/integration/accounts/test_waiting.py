"""Requests of accounts while another transaction, such as an import, has locked rows that they need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.accounts_app import Running, bearer, register
from tests.integration.accounts.test_login import log_in
from tests.problems import problem_of
from wherry.accounts import repository
from wherry.database import pools
from wherry.database.pools import Connection


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LOCK_SECONDS", 0.3)


@asynccontextmanager
async def uncommitted(app: Running, statement: str, *values: object) -> AsyncIterator[Connection]:
    """A transaction that has written something and stays open."""
    async with app.pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(statement.encode(), values)
        yield connection


def body(name: str) -> dict[str, object]:
    return {"user": {"username": name, "email": f"{name}@example.com", "password": f"{name}'s password"}}


async def test_no_request_waits_long_for_rows_that_another_has_locked(app: Running, client: httpx.AsyncClient) -> None:
    alice = await register(client, "alice")
    await app.execute("insert into wherry.users (email, username, name) values ('i@example.com', 'i@example.com', 'I')")
    headers = bearer(alice["token"])
    async with uncommitted(app, "update wherry.users set email = 'x' || email"):
        began = time.monotonic()
        answers = await asyncio.gather(
            client.post("/api/users", json=body("xalice")),
            client.put("/api/user", json={"user": {"bio": "changed"}}, headers=headers),
            client.post("/api/v1/users/2/onboarding-link", headers=headers),
            log_in(client, "alice@example.com", "alice's password"),
        )
        took = time.monotonic() - began

    for answer in answers:
        problem = problem_of(answer, 503, "DATABASE_ERROR")
        assert "changing the same rows" in problem["detail"]
    assert took < 20  # they would wait for the end of this block
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_waiting_registrations_leave_connections_for_other_requests(
    app: Running, client: httpx.AsyncClient
) -> None:
    alice = await register(client, "alice")
    insert = "insert into wherry.users (email, username, name) values ('taken@example.com', 'taken', 'T')"
    async with uncommitted(app, insert):
        crowd = [asyncio.create_task(client.post("/api/users", json=body("taken"))) for _ in range(20)]
        await asyncio.wait(crowd, timeout=0.1)
        assert (await client.get("/api/user", headers=bearer(alice["token"]))).status_code == 200
        answers = await asyncio.gather(*crowd)

    assert {answer.status_code for answer in answers} == {503}


async def test_an_id_that_an_import_has_taken_is_skipped(app: Running, client: httpx.AsyncClient) -> None:
    await app.execute(
        "insert into wherry.users (id, email, username, name) "
        "select n, n || '@example.com', n, n from generate_series(1, 3) n"
    )
    assert (await client.post("/api/users", json=body("alice"))).status_code == 201
    assert await app.rows("select id, role from wherry.users where username = 'alice'") == [(4, "user")]


async def test_if_no_id_is_free_the_client_is_told_to_retry(app: Running, client: httpx.AsyncClient) -> None:
    tries = repository.ID_TRIES
    insert = (
        "insert into wherry.users (id, email, username, name) "
        "select n, n || '@x.org', n, n from generate_series(1, %s) n"
    )
    await app.execute(insert, tries)

    problem_of(await client.post("/api/users", json=body("alice")), 503, "DATABASE_ERROR")
    assert (await client.post("/api/users", json=body("alice"))).status_code == 201


async def test_an_id_of_an_uncommitted_import_is_waited_for_or_skipped(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "first")
    insert = "insert into wherry.users (id, email, username, name) values (2, 'i@example.com', 'i@example.com', 'I')"
    async with app.pool.connection() as connection:
        async with connection.transaction():
            await connection.execute(insert)
            waiting = asyncio.create_task(client.post("/api/users", json=body("alice")))
            await asyncio.wait({waiting}, timeout=0.1)
        assert (await waiting).status_code == 201
    assert await app.rows("select id from wherry.users where username = 'alice'") == [(3,)]
