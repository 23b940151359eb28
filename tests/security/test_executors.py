"""Slow work of one kind does not delay other work."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from argon2 import PasswordHasher

from tests.accounts_app import Running, register, running
from tests.integration.accounts.conftest import accounts_database, database_url  # noqa: F401
from tests.processes import finished, import_file, service
from wherry import this_process
from wherry.accounts import mail
from wherry.accounts.mail import Mailer
from wherry.accounts.passwords import NICENESS, Passwords

pytestmark = pytest.mark.security

RESETS = 20


class SilentServer:
    """Accepts connections, and never responds."""

    def __init__(self) -> None:
        self.port = 0
        self.connected = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connected.set()
        await reader.read()

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@pytest.fixture
async def silent() -> AsyncIterator[SilentServer]:
    keeper = SilentServer()
    async with await asyncio.start_server(keeper.serve, "127.0.0.1", 0) as server:
        keeper.port = server.sockets[0].getsockname()[1]
        yield keeper
        await keeper.hang_up()


@pytest.fixture
async def app(database_url: str, tmp_path: Path, silent: SilentServer) -> AsyncIterator[Running]:  # noqa: F811
    mailer = Mailer.from_url(f"smtp://127.0.0.1:{silent.port}", "wherry@example.com")
    async with running(database_url, tmp_path, mailer=mailer) as started:
        yield started
    mailer.close()


async def reset(app: Running, number: int) -> int:
    async with app.client(f"203.0.113.{number}") as client:
        return (await client.post("/api/users/password/reset", json={"email": f"n{number}@example.com"})).status_code


@pytest.fixture
async def people(app: Running) -> None:
    async with app.client() as client:
        for number in range(RESETS):
            await register(client, f"n{number}")


@pytest.mark.usefixtures("people")
async def test_an_unresponsive_mail_server_does_not_delay_logins(
    app: Running, silent: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 3)
    resets = [asyncio.create_task(reset(app, number)) for number in range(RESETS)]
    await silent.connected.wait()
    while await app.rows("select count(*) from wherry.password_links") != [(RESETS,)]:
        pass
    began = time.monotonic()
    async with app.client("198.51.100.9") as client:
        body = {"user": {"email": "n0@example.com", "password": "n0's password"}}
        answer = await client.post("/api/users/login", json=body)
        took = time.monotonic() - began
    unsent = [task for task in resets if not task.done()]
    for task in resets:
        task.cancel()

    assert answer.status_code == 200
    assert len(unsent) == RESETS
    assert took < 1


@pytest.mark.usefixtures("people")
async def test_mails_over_the_limit_are_dropped_and_logged(app: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(mail, "MAX_WAITING", 5)
    with structlog.testing.capture_logs() as logged:
        statuses = await asyncio.gather(*(reset(app, number) for number in range(RESETS)))

    assert statuses == [202] * RESETS
    warnings = [entry for entry in logged if entry["event"] == "a password link could not be mailed"]
    assert len(warnings) == RESETS
    dropped = [entry for entry in warnings if "too many mails are waiting" in str(entry["exc_info"])]
    assert len(dropped) >= RESETS - 5 - mail.THREADS


async def test_threads_that_check_passwords_have_a_low_priority() -> None:
    class Telling(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            return str(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    passwords = Passwords(Telling())
    assert int(await passwords.hash("password")) == NICENESS > os.getpriority(os.PRIO_PROCESS, 0)
    passwords.close()


@pytest.mark.parametrize("command", [("wherry", "worker"), ("procrastinate", "--app=wherry.worker.app", "worker")])
def test_a_worker_has_a_lower_priority_than_the_api(
    database_url: str,  # noqa: F811
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    with service(database_url, tmp_path, workers=0) as running, running.admin() as admin:
        program, *arguments = command
        worker = running.start(*arguments, program=program)
        job = import_file(admin, "users", b'{"email": "one@example.com", "name": "One"}\n', key="one")
        assert finished(admin, job["id"])["status"] == "succeeded"
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == this_process.NICENESS
