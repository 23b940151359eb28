"""Rate limits count exactly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from tests.accounts_app import Running, bearer, register
from tests.integration.accounts.test_login import log_in
from wherry.accounts import limits, quota
from wherry.accounts.limits import RatePolicy, Usage
from wherry.database.pools import Pool, make_pool
from wherry.errors import LimitReached
from wherry.jobs import ledger
from wherry.jobs.models import NewJob, new_job_id
from wherry.jobs.states import Kind
from wherry.settings import load_settings

EXPORTS = RatePolicy("exports", 10, 3600)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, name="wherry tests", max_size=8) as opened:
        yield opened


async def take(pool: Pool, policy: RatePolicy = EXPORTS, subject: str = "1") -> Usage | LimitReached:
    async with pool.connection() as connection:
        try:
            return await limits.take(connection, policy, subject)
        except LimitReached as refused:
            return refused


async def test_concurrent_uses_never_exceed_the_quota(pool: Pool) -> None:
    outcomes = await asyncio.gather(*(take(pool) for _ in range(40)))

    passed = [outcome for outcome in outcomes if isinstance(outcome, Usage)]
    assert sorted(usage.remaining for usage in passed) == list(range(10))


async def test_subjects_and_policies_are_counted_separately(pool: Pool) -> None:
    for _ in range(10):
        await take(pool)

    assert isinstance(await take(pool), LimitReached)
    assert isinstance(await take(pool, subject="2"), Usage)
    assert isinstance(await take(pool, replace(EXPORTS, name="imports")), Usage)


async def test_a_refusal_says_when_to_retry(pool: Pool) -> None:
    for _ in range(10):
        await take(pool)
    refused = await take(pool)

    assert isinstance(refused, LimitReached)
    assert (refused.status, refused.code) == (429, "RATE_LIMITED")
    seconds = int(refused.headers["Retry-After"])
    assert 3590 <= seconds <= 3600
    assert refused.headers["RateLimit-Policy"] == '"exports";q=10;w=3600'
    assert refused.headers["RateLimit"] == f'"exports";r=0;t={seconds}'


async def test_a_new_window_begins_when_one_ends_and_retries_do_not_prolong_it(pool: Pool) -> None:
    ends = set()
    async with pool.connection() as connection:
        for _ in range(15):
            await take(pool)
            ends.add(await (await connection.execute("select expires_at from wherry.rate_limits")).fetchone())
        await connection.execute("update wherry.rate_limits set expires_at = clock_timestamp()")

    assert len(ends) == 1
    assert await take(pool) == Usage(EXPORTS, 9, 3600)


async def test_a_use_that_was_undone_can_be_taken_again(pool: Pool) -> None:
    usage = None
    for _ in range(10):
        usage = await take(pool)
    assert isinstance(usage, Usage)
    async with pool.connection() as connection:
        await limits.give_back(connection, usage, "1")

    assert limits.returned(usage).remaining == 1
    assert isinstance(await take(pool), Usage)
    assert isinstance(await take(pool), LimitReached)


async def test_only_counters_of_ended_windows_are_purged(pool: Pool) -> None:
    await take(pool)
    await take(pool, subject="2")
    async with pool.connection() as connection:
        await connection.execute("update wherry.rate_limits set expires_at = clock_timestamp() where subject = '2'")
        assert await limits.purge_counters(connection) == 1
        assert await limits.purge_counters(connection) == 0


async def test_concurrent_requests_never_exceed_the_limit_of_unfinished_jobs(pool: Pool) -> None:
    async with pool.connection() as connection:
        for name in ("alice", "bob"):
            await connection.execute(
                "insert into wherry.users (email, username, name) values (%s, %s, %s)",
                [f"{name}@example.com", name, name],
            )

    settings = load_settings(export_concurrent_limit_user=3)

    async def ask(owner_id: int, kind: Kind) -> int:
        new = NewJob(id=new_job_id(), kind=kind, owner_id=owner_id, resource="users", format="ndjson")
        try:
            async with quota.admission(pool, kind, owner_id) as connection:
                await ledger.create(connection, new)
                await quota.admit(connection, kind, owner_id, settings)
        except LimitReached as refused:
            return int(refused.headers["Retry-After"]) if refused.code == "CONCURRENT_LIMIT" else -1
        return 0

    outcomes = await asyncio.gather(*(ask(1, Kind.EXPORT) for _ in range(12)))

    assert sorted(outcomes) == [0] * 3 + [quota.RETRY_SECONDS] * 9
    assert await ask(2, Kind.EXPORT) == 0, "another's jobs do not count"
    assert await ask(1, Kind.IMPORT) == 0, "jobs of another kind do not count"


async def test_failed_logins_are_limited_per_account_but_not_for_the_owner_at_a_known_address(
    app: Running, client: httpx.AsyncClient
) -> None:
    await register(client, "alice")
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200
    answers = []
    for number in range(14):
        async with app.client(f"203.0.113.{number}") as stranger:
            answers.append(await log_in(stranger, "alice@example.com", "a guess"))
    async with app.client("203.0.113.99") as stranger:
        answers.append(await log_in(stranger, "alice@example.com", "alice's password"))

    assert [answer.status_code for answer in answers] == [403] * 10 + [429] * 5
    assert answers[-1].json()["code"] == "RATE_LIMITED"
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_failed_logins_are_limited_per_address_for_all_accounts_together(
    app: Running, client: httpx.AsyncClient
) -> None:
    statuses = [(await log_in(client, f"n{number}@example.com", "a guess")).status_code for number in range(22)]

    assert statuses == [403] * 20 + [429] * 2
    async with app.client("203.0.113.1") as elsewhere:
        assert (await log_in(elsewhere, "n0@example.com", "a guess")).status_code == 403


async def test_guessing_passwords_in_parallel_is_no_faster(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    answers = await asyncio.gather(*(log_in(client, "alice@example.com", f"guess {n}") for n in range(15)))

    assert sorted(answer.status_code for answer in answers) == [403] * 10 + [429] * 5


async def test_successful_logins_do_not_count(client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    answers = [await log_in(client, "alice@example.com", "alice's password") for _ in range(25)]

    assert {answer.status_code for answer in answers} == {200}
    assert re.fullmatch(r'"login-address";r=20;t=\d+', answers[-1].headers["ratelimit"])
    assert answers[-1].headers["ratelimit-policy"] == '"login-address";q=20;w=300'


async def test_an_ipv6_network_counts_as_one_address(app: Running) -> None:
    statuses = []
    for number in range(21):
        async with app.client(f"2001:db8:1:2::{number:x}") as stranger:
            statuses.append((await log_in(stranger, f"n{number}@example.com", "a guess")).status_code)
    async with app.client("2001:db8:1:3::1") as neighbour:
        statuses.append((await log_in(neighbour, "n@example.com", "a guess")).status_code)

    assert statuses == [403] * 20 + [429, 403]


async def test_requests_and_uses_of_links_are_limited(app: Running, client: httpx.AsyncClient) -> None:
    body = {"email": "nobody@example.com"}
    asked = [(await client.post("/api/users/password/reset", json=body)).status_code for _ in range(7)]
    used = []
    for _ in range(22):
        used.append(
            (await client.post("/api/users/password", json={"token": "t", "password": "a new one"})).status_code
        )

    assert asked == [202] * 5 + [429] * 2
    assert used == [410] * 20 + [429] * 2


async def test_registrations_are_limited_per_address(app: Running, client: httpx.AsyncClient) -> None:
    await client.post("/api/users", json={"user": {"username": "", "email": "", "password": ""}})
    answers = [await try_to_register(client, f"n{number}") for number in range(62)]

    assert [answer.status_code for answer in answers] == [201] * 60 + [429] * 2
    assert answers[0].headers["ratelimit-policy"] == '"register-address";q=60;w=3600'
    assert answers[0].headers["ratelimit"].startswith('"register-address";r=59;t=')
    assert answers[-1].json()["code"] == "RATE_LIMITED"
    assert answers[-1].headers["retry-after"]
    assert answers[-1].headers["ratelimit"].startswith('"register-address";r=0;t=')
    async with app.client("203.0.113.1") as elsewhere:
        assert (await try_to_register(elsewhere, "n100")).status_code == 201


async def try_to_register(client: httpx.AsyncClient, name: str) -> httpx.Response:
    fields = {"username": name, "email": f"{name}@example.com", "password": "pw"}
    return await client.post("/api/users", json={"user": fields})


async def test_changes_of_the_password_are_limited_and_other_changes_are_not(
    app: Running, client: httpx.AsyncClient
) -> None:
    user = await register(client, "alice")

    async def change(address: str, **fields: str) -> httpx.Response:
        async with app.client(address) as speaking:
            answer = await speaking.put("/api/user", json={"user": fields}, headers=bearer(user["token"]))
            user.update(answer.json().get("user", {}))  # a new password comes with a new token
            return answer

    answers = [await change(f"203.0.113.{number}", password="another") for number in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert re.fullmatch(r'"password-address";r=19;t=\d+, "password-account";r=9;t=\d+', answers[0].headers["ratelimit"])
    others = [await change("203.0.113.1", bio=f"{number}") for number in range(30)]
    assert {answer.status_code for answer in others} == {200}


async def test_limits_of_anonymous_requests_do_not_affect_logged_in_users(
    app: Running, client: httpx.AsyncClient
) -> None:
    user = await register(client, "alice")
    for number in range(22):
        await log_in(client, f"n{number}@example.com", "a guess")

    assert (await client.get("/api/user", headers=bearer(user["token"]))).status_code == 200


async def test_changes_of_names_are_limited_per_account_and_per_address(
    app: Running, client: httpx.AsyncClient
) -> None:
    """A refusal of a taken name reveals that somebody has it."""
    people = [await register(client, f"n{number}") for number in range(4)]
    await app.execute("delete from wherry.rate_limits")

    async def attempt(number: int, who: int, **fields: str) -> httpx.Response:
        async with app.client(f"203.0.113.{number}") as speaking:
            return await speaking.put("/api/user", json={"user": fields}, headers=bearer(people[who]["token"]))

    answers = [await attempt(number, 0, email="n1@example.com") for number in range(22)]
    assert [answer.status_code for answer in answers] == [422] * 20 + [429] * 2
    answers = [await attempt(99, 1 + number // 20, username="n0") for number in range(60)]
    assert {answer.status_code for answer in answers} == {422}
    refused = await attempt(99, 0, username="n3")
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert refused.headers["ratelimit-policy"] == '"rename-address";q=60;w=3600'
    kept = [await attempt(99, 0, email="n0@example.com", username="n0", bio=f"{n}") for n in range(3)]
    assert {answer.status_code for answer in kept} == {200}  # settings forms send what has not changed, too


async def test_a_login_does_not_reveal_whether_its_address_is_known(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    await log_in(client, "alice@example.com", "alice's password")

    async def guesses(address: str, email: str) -> list[tuple[int, str | None, str | None]]:
        async with app.client(address) as guessing:
            answers = [await log_in(guessing, email, "a guess") for _ in range(12)]
        await app.execute("delete from wherry.rate_limits")
        names = ("ratelimit-policy", "ratelimit")
        return [(a.status_code, *((a.headers[name] or "").partition(";t=")[0] for name in names)) for a in answers]

    known = await guesses("198.51.100.7", "alice@example.com")
    assert known == await guesses("203.0.113.1", "alice@example.com")
    assert known == await guesses("203.0.113.1", "nobody@example.com")
