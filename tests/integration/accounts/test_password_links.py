"""Links for setting a password: who gets one, and when it is valid."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import structlog

from tests.accounts_app import BASE_URL, Running, bearer, register, running
from tests.integration.accounts.test_login import log_in
from tests.smtp import MailServer, mail_server
from wherry.accounts import repository
from wherry.accounts.links import reset_link
from wherry.accounts.mail import Mailer
from wherry.accounts.models import Changes, ResetRequest

IMPORTED = (
    "insert into wherry.users (email, username, name) values ('i@example.com', 'i@example.com', 'I') returning id"
)


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@pytest.fixture
async def app(database_url: str, tmp_path: Path, mail: MailServer) -> AsyncIterator[Running]:
    mailer = Mailer.from_url(f"smtp://127.0.0.1:{mail.port}", "wherry <wherry@example.com>")
    async with running(database_url, tmp_path, mailer=mailer) as started:
        yield started


async def ask(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/users/password/reset", json={"email": email})


async def mailed_token(mail: MailServer) -> str:
    message = await asyncio.wait_for(mail.arrived.get(), 10)
    return token_in(message.get_content())


def token_in(text: str) -> str:
    found = re.search(rf"{re.escape(BASE_URL)}/set-password#token=([\w-]+)", text)
    assert found, text
    return found.group(1)


async def set_password(client: httpx.AsyncClient, token: str, password: str = "a new one") -> httpx.Response:
    return await client.post("/api/users/password", json={"token": token, "password": password})


async def test_a_mailed_link_sets_a_password_once(client: httpx.AsyncClient, mail: MailServer) -> None:
    await register(client, "alice")
    assert (await ask(client, "ALICE@example.com")).status_code == 202
    token = await mailed_token(mail)
    answer = await set_password(client, token)

    assert answer.status_code == 200
    user = answer.json()["user"]
    assert (await client.get("/api/user", headers=bearer(user["token"]))).json()["user"]["username"] == "alice"
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 403
    assert (await log_in(client, "alice@example.com", "a new one")).status_code == 200
    again = await set_password(client, token, "yet another")
    assert (again.status_code, again.json()["code"]) == (410, "LINK_EXPIRED")
    assert (await log_in(client, "alice@example.com", "yet another")).status_code == 403


async def test_the_mail_is_sent_only_to_the_account_and_says_what_it_is(
    client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    message = await asyncio.wait_for(mail.arrived.get(), 10)

    assert message["To"] == "alice@example.com"
    assert message["From"] == "wherry <wherry@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "within an hour" in message.get_content()


async def test_the_response_is_the_same_for_known_and_unknown_addresses(
    app: Running, client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    known, unknown = await ask(client, "alice@example.com"), await ask(client, "nobody@example.com")
    unstorable = await ask(client, "nul\0@example.com")

    assert {(a.status_code, a.content, a.headers["content-type"]) for a in (known, unknown, unstorable)} == {
        (202, known.content, known.headers["content-type"])
    }
    assert await app.rows("select count(*) from wherry.password_links") == [(1,)]
    await mailed_token(mail)
    assert mail.arrived.empty()


async def test_a_link_is_stored_only_as_a_hash_and_is_valid_for_an_hour(
    app: Running, client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)

    [(kept, whole, valid_for)] = await app.rows(
        "select token_hash, password_links::text, extract(epoch from expires_at - created_at) "
        "from wherry.password_links"
    )
    assert kept == hashlib.sha256(token.encode()).digest()
    assert token not in whole
    assert valid_for == 3600


async def test_an_expired_link_gets_a_410(app: Running, client: httpx.AsyncClient, mail: MailServer) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    await app.execute("update wherry.password_links set expires_at = now() - interval '1 second'")

    assert (await set_password(client, token)).status_code == 410
    assert (await log_in(client, "alice@example.com", "alice's password")).status_code == 200


async def test_an_unknown_link_gets_a_410(client: httpx.AsyncClient) -> None:
    answer = await set_password(client, "x" * 43)

    assert answer.status_code == 410
    assert set(answer.json()["errors"]) == {"token"}


async def test_concurrent_uses_of_a_link_succeed_once(client: httpx.AsyncClient, mail: MailServer) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    answers = await asyncio.gather(*(set_password(client, token, f"password {number}") for number in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200, 410, 410, 410, 410, 410]
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert (await log_in(client, "alice@example.com", f"password {winner}")).status_code == 200


async def test_using_a_link_voids_the_others(client: httpx.AsyncClient, mail: MailServer) -> None:
    await register(client, "alice")
    tokens = []
    for _ in range(2):
        await ask(client, "alice@example.com")
        tokens.append(await mailed_token(mail))

    assert (await set_password(client, tokens[1])).status_code == 200
    assert (await set_password(client, tokens[0])).status_code == 410


@pytest.mark.parametrize("fields", [{"password": "changed"}, {"email": "alicia@example.com"}])
async def test_a_new_password_or_address_voids_all_links(
    client: httpx.AsyncClient, mail: MailServer, fields: dict[str, str]
) -> None:
    user = await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    await client.put("/api/user", json={"user": fields}, headers=bearer(user["token"]))

    assert (await set_password(client, token)).status_code == 410


async def test_a_link_requested_during_a_change_of_address_is_not_for_the_old_one(
    app: Running, client: httpx.AsyncClient
) -> None:
    await register(client, "alice")
    async with app.pool.connection() as changing, changing.transaction():
        await repository.update(changing, 1, Changes(email="alicia@example.com"), None)
        asked = asyncio.create_task(app.parts.password_links.deliver(ResetRequest("alice@example.com", ())))
        await asyncio.wait({asked}, timeout=0.2)
        await repository.void_links(changing, 1)
    await asked

    assert await app.rows("select count(*) from wherry.password_links") == [(0,)]


async def test_a_link_is_voided_by_a_change_that_waited_for_it(app: Running, client: httpx.AsyncClient) -> None:
    alice = await register(client, "alice")
    async with app.pool.connection() as making, making.transaction():
        assert await reset_link(making, BASE_URL, "alice@example.com")
        change = client.put("/api/user", json={"user": {"password": "another"}}, headers=bearer(alice["token"]))
        changing = asyncio.create_task(change)
        await asyncio.wait({changing}, timeout=0.2)
        assert not changing.done()
    assert (await changing).status_code == 200

    assert await app.rows("select used_at is not null from wherry.password_links") == [(True,)]


async def test_a_link_is_invalid_after_an_import_has_changed_the_address(
    app: Running, client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    await app.execute("update wherry.users set email = 'alicia@example.com'")

    assert (await set_password(client, token)).status_code == 410
    assert (await log_in(client, "alicia@example.com", "alice's password")).status_code == 200


async def test_an_onboarding_link_can_only_set_a_first_password(app: Running, client: httpx.AsyncClient) -> None:
    admin = await register(client, "alice")
    [(user_id,)] = await app.rows(IMPORTED)
    answer = await client.post(f"/api/v1/users/{user_id}/onboarding-link", headers=bearer(admin["token"]))
    await app.execute("update wherry.users set password_hash = 'set in another way' where id = %s", user_id)

    assert (await set_password(client, token_in(answer.json()["url"]))).status_code == 410


async def test_no_onboarding_link_is_created_while_a_password_is_being_set(
    app: Running, client: httpx.AsyncClient
) -> None:
    admin = await register(client, "alice")
    [(user_id,)] = await app.rows(IMPORTED)
    path = f"/api/v1/users/{user_id}/onboarding-link"
    async with app.pool.connection() as setting, setting.transaction():
        await repository.set_password(setting, user_id, "a hash")
        asked = asyncio.create_task(client.post(path, headers=bearer(admin["token"])))
        await asyncio.wait({asked}, timeout=0.2)
        await repository.void_links(setting, user_id)

    assert (await asked).status_code == 409
    assert await app.rows("select count(*) from wherry.password_links") == [(0,)]


async def test_nothing_that_depends_on_the_account_happens_before_the_response(
    app: Running, client: httpx.AsyncClient
) -> None:
    """Otherwise the response time would reveal whether there is such an account."""
    await register(client, "alice")
    asked = await app.parts.password_links.request_reset("alice@example.com", "198.51.100.7")

    assert asked.email == "alice@example.com"
    assert await app.rows("select count(*) from wherry.password_links") == [(0,)]


async def test_a_refused_password_does_not_use_up_the_link(client: httpx.AsyncClient, mail: MailServer) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)

    assert (await set_password(client, token, "  ")).status_code == 422
    assert (await set_password(client, token, "p" * 1025)).status_code == 422
    assert (await set_password(client, token)).status_code == 200


async def test_an_inactive_account_can_neither_get_nor_use_a_link(
    app: Running, client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    await app.execute("update wherry.users set active = false")

    assert (await set_password(client, token)).status_code == 410
    assert (await ask(client, "alice@example.com")).status_code == 202
    assert await app.rows("select count(*) from wherry.password_links") == [(1,)]


async def test_a_refusal_by_the_mail_server_is_logged_and_hidden_from_the_client(
    client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    mail.refuse = True
    with structlog.testing.capture_logs() as logged:
        answer = await ask(client, "alice@example.com")

    assert answer.status_code == 202
    assert [entry["log_level"] for entry in logged] == ["warning"]


async def test_without_a_mail_server_the_log_gives_advice_but_no_addresses(database_url: str, tmp_path: Path) -> None:
    async with running(database_url, tmp_path) as app, app.client() as client:
        await register(client, "alice")
        logs = []
        for email in ("alice@example.com", "nobody@example.com"):
            with structlog.testing.capture_logs() as logged:
                assert (await ask(client, email)).status_code == 202
            logs.append(logged)

    assert logs[0] == logs[1]
    ((entry,), _) = logs
    assert entry["log_level"] == "warning"
    assert "SMTP_URL" in entry["event"]
    assert "wherry users reset-link" in entry["event"]


async def test_the_link_has_the_public_url_not_the_host_of_the_request(
    client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice")
    answer = await client.post(
        "/api/users/password/reset", json={"email": "alice@example.com"}, headers={"Host": "evil.example"}
    )

    assert answer.status_code == 202
    assert "evil" not in str(await asyncio.wait_for(mail.arrived.get(), 10))


async def test_an_admin_can_create_a_link_for_an_imported_account(app: Running, client: httpx.AsyncClient) -> None:
    admin = await register(client, "alice")
    [(user_id,)] = await app.rows(IMPORTED)
    answer = await client.post(f"/api/v1/users/{user_id}/onboarding-link", headers=bearer(admin["token"]))

    assert answer.status_code == 201
    assert set(answer.json()) == {"url", "expiresAt"}
    expires_at = answer.json()["expiresAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", expires_at)
    assert datetime.fromisoformat(expires_at) > datetime.now(UTC) + timedelta(days=2)
    assert (await set_password(client, token_in(answer.json()["url"]))).status_code == 200
    assert (await log_in(client, "i@example.com", "a new one")).status_code == 200


async def test_an_account_with_a_password_gets_no_onboarding_link(app: Running, client: httpx.AsyncClient) -> None:
    admin = await register(client, "alice")
    await register(client, "bob")
    answer = await client.post("/api/v1/users/2/onboarding-link", headers=bearer(admin["token"]))

    assert (answer.status_code, answer.json()["code"]) == (409, "PASSWORD_ALREADY_SET")
    for nobody in (3, 0, 2**31, 10**30):
        answer = await client.post(f"/api/v1/users/{nobody}/onboarding-link", headers=bearer(admin["token"]))
        assert answer.status_code == 404
    assert await app.rows("select count(*) from wherry.password_links") == [(0,)]


async def test_only_an_admin_may_create_an_onboarding_link(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    bob = await register(client, "bob")
    [(user_id,)] = await app.rows(IMPORTED)
    path = f"/api/v1/users/{user_id}/onboarding-link"

    assert (await client.post(path)).status_code == 401
    refused = await client.post(path, headers=bearer(bob["token"]))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")


async def test_an_imported_account_can_request_its_first_password_by_mail(
    app: Running, client: httpx.AsyncClient, mail: MailServer
) -> None:
    await app.rows(IMPORTED)
    await ask(client, "i@example.com")

    assert (await set_password(client, await mailed_token(mail))).status_code == 200
    assert (await log_in(client, "i@example.com", "a new one")).status_code == 200


async def test_expired_links_are_purged(app: Running, client: httpx.AsyncClient) -> None:
    await register(client, "alice")
    await ask(client, "alice@example.com")
    async with app.pool.connection() as connection:
        assert await repository.purge_expired(connection) == 0
        await connection.execute("update wherry.password_links set expires_at = now() - interval '25 hours'")
        assert await repository.purge_expired(connection) == 1


async def test_a_password_under_eight_characters_is_refused_and_does_not_use_up_the_link(
    client: httpx.AsyncClient, mail: MailServer
) -> None:
    await register(client, "alice", password="short")  # as clients of the older service may
    await ask(client, "alice@example.com")
    token = await mailed_token(mail)
    refused = await set_password(client, token, "1234567")

    assert refused.status_code == 422
    assert refused.json()["errors"] == {"password": ["is too short (minimum is 8 characters)"]}
    assert (await set_password(client, token, "12345678")).status_code == 200
