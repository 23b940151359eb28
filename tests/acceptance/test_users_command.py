"""`wherry users` manages accounts without HTTP and without mail."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import wherry
from tests.processes import PASSWORD, Service, bare_environment
from wherry.database.migrations import migrate
from wherry.local.binaries import Binaries
from wherry.local.embedded import EmbeddedPostgres

BARE = bare_environment()
CAPTAIN = "captain@example.com"


class Command:
    """`wherry users` on one service's database."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __call__(self, *arguments: str, given: str = "", **settings: str) -> str:
        ended = self._run(*arguments, given=given, **settings)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
        return ended.stdout

    def _run(self, *arguments: str, given: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.service.environment, **settings}
        return wherry(self.service.data_dir, environment, "users", *arguments, given=given)

    def refused(self, *arguments: str, given: str = "", status: int = 1) -> str:
        ended = self._run(*arguments, given=given)
        assert (ended.returncode, ended.stdout) == (status, "")
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        return ended.stderr

    def listed(self) -> dict[str, dict[str, Any]]:
        accounts = [json.loads(line) for line in self("list", "--json").splitlines()]
        return {account["email"]: account for account in accounts}


@pytest.fixture
def users(running: Service, admin: httpx.Client) -> Command:
    """The command, and an admin in the database."""
    return Command(running)


@pytest.fixture
def anyone(running: Service) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


def log_in(client: httpx.Client, email: str, password: str) -> httpx.Response:
    return client.post("/api/users/login", json={"user": {"email": email, "password": password}})


def use_link(client: httpx.Client, printed: str, password: str) -> httpx.Response:
    found = re.search(r"^http\S+/set-password#token=(\S+)$", printed, re.MULTILINE)
    assert found, printed
    return client.post("/api/users/password", json={"token": found[1], "password": password})


def test_an_account_is_created_with_a_link_to_set_its_password(users: Command, anyone: httpx.Client) -> None:
    printed = users("create", "--email", "Link@Example.com", "--username", "link", "--role", "admin", "--operator")
    expected = {"role": "admin", "operator": True, "active": True, "hasPassword": False, "username": "link"}
    assert expected.items() <= users.listed()["link@example.com"].items()

    assert use_link(anyone, printed, "chosen once").status_code == 200
    assert use_link(anyone, printed, "chosen twice").status_code == 410
    assert log_in(anyone, "link@example.com", "chosen once").status_code == 200
    users("set-role", "link@example.com", "user")


def test_an_account_is_created_with_a_password_from_standard_input(users: Command, anyone: httpx.Client) -> None:
    asked = ("create", "--email", "stdin@example.com", "--username", "stdin", "--password-stdin")
    printed = users(*asked, given=" pâss word \n")
    assert "http" not in printed
    assert {"role": "user", "operator": False}.items() <= users.listed()["stdin@example.com"].items()
    assert log_in(anyone, "stdin@example.com", " pâss word ").status_code == 200

    assert "email has already been taken" in users.refused(*asked, given="another one\n")
    assert "password can't be blank" in users.refused(
        "create", "--email", "b@example.com", "--username", "b", "--password-stdin"
    )
    assert "email is not a valid" in users.refused("create", "--email", "b", "--username", "b")


def test_the_list_is_readable_and_not_cut_off(users: Command) -> None:
    email = f"{'long' * 10}@{'example' * 6}.example.com"
    users("create", "--email", email, "--username", email)
    lines = users("list").splitlines()

    assert lines[0].split() == ["id", "e-mail", "username", "role", "operator", "active", "password", "created"]
    line = next(line for line in lines if email in line)
    assert line.split()[1:7] == [email, email, "user", "no", "yes", "no"]
    assert next(line for line in lines if CAPTAIN in line).split()[3:7] == ["admin", "yes", "yes", "yes"]


def test_an_admin_who_forgot_the_password_can_log_in_again(users: Command, anyone: httpx.Client) -> None:
    old = log_in(anyone, CAPTAIN, PASSWORD).json()["user"]["token"]
    user = use_link(anyone, users("reset-link", CAPTAIN), "another one").json()["user"]

    assert user["email"] == CAPTAIN
    assert log_in(anyone, CAPTAIN, PASSWORD).status_code == 403
    assert anyone.get("/api/user", headers={"Authorization": f"Bearer {old}"}).status_code == 401
    users("set-password", str(user["id"]), "--password-stdin", given=f"{PASSWORD}\n")
    assert log_in(anyone, CAPTAIN, PASSWORD).status_code == 200


def test_a_link_starts_with_public_url_and_is_invalid_after_a_password_change(
    users: Command, anyone: httpx.Client
) -> None:
    printed = users("reset-link", CAPTAIN, PUBLIC_URL="https://wherry.example/below/")
    assert "\nhttps://wherry.example/below/set-password#token=" in printed

    users("set-password", CAPTAIN, "--password-stdin", given=PASSWORD)
    assert use_link(anyone, printed, "too late").status_code == 410


def test_a_terminal_prompts_for_the_password_twice(users: Command, anyone: httpx.Client) -> None:
    def ask(*answers: str) -> int:
        terminal, inside = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "wherry", "users", "set-password", CAPTAIN],
            cwd=users.service.data_dir,
            env=users.service.environment,
            stdin=inside,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        with os.fdopen(terminal, "wb", buffering=0) as typing, process.stderr:
            os.close(inside)
            for answer in answers:
                prompt = b""
                while not prompt.endswith(b": "):
                    prompt += process.stderr.read(1)
                typing.write(f"{answer}\n".encode())
            process.stderr.read()
        return process.wait(60)

    assert ask("typed twice", "typed twice") == 0
    assert log_in(anyone, CAPTAIN, "typed twice").status_code == 200
    assert ask(PASSWORD, "mistyped") == 1
    assert ask(PASSWORD, PASSWORD) == 0
    assert log_in(anyone, CAPTAIN, PASSWORD).status_code == 200
    assert "--password-stdin" in users.refused("set-password", CAPTAIN, status=2)


def test_a_deactivated_account_is_refused_until_it_is_activated(users: Command, anyone: httpx.Client) -> None:
    user = {"username": "mate", "email": "mate@example.com", "password": "pw"}
    headers = {"Authorization": f"Bearer {anyone.post('/api/users', json={'user': user}).json()['user']['token']}"}
    made = anyone.post("/api/user/tokens", json={"name": "script"}, headers=headers).json()["apiToken"]
    users("deactivate", "MATE@example.com")

    script = {"Authorization": f"Bearer {made['token']}"}
    assert [anyone.get("/api/user", headers=sent).status_code for sent in (headers, script)] == [401, 401]
    for command in ("reset-link", "set-password"):
        arguments = (command, "mate@example.com", *(["--password-stdin"] if command == "set-password" else []))
        assert "wherry users activate mate@example.com" in users.refused(*arguments, given="a new one\n")
    users("activate", "mate@example.com")
    assert [anyone.get("/api/user", headers=sent).status_code for sent in (headers, script)] == [200, 200]


def test_the_last_active_admin_cannot_be_demoted_or_deactivated(users: Command) -> None:
    for change in (("set-role", CAPTAIN, "user"), ("deactivate", CAPTAIN)):
        assert "is the last active admin: make another account an admin first" in users.refused(*change)


def test_the_operator_flag_can_be_set_and_removed(users: Command) -> None:
    users("create", "--email", "o@example.com", "--username", "o")
    users("operator", "o@example.com")
    assert users.listed()["o@example.com"]["operator"] is True
    users("operator", "o@example.com", "--revoke")
    assert users.listed()["o@example.com"]["operator"] is False


@pytest.mark.parametrize(
    "command",
    [
        ("reset-link", "nobody@example.com"),
        ("deactivate", "2147483647"),
        ("set-role", "99999999999999999999", "admin"),
        ("operator", "no one"),
    ],
    ids=" ".join,
)
def test_an_unknown_account_is_reported_in_one_line(users: Command, command: tuple[str, ...]) -> None:
    assert f"there is no account {command[1]}:" in users.refused(*command)


@pytest.fixture
def embedded(data_dir: Path) -> Path:
    """A data directory as `wherry up` leaves it."""
    folder = data_dir.with_name("wherry")
    folder.mkdir(mode=0o711)
    data_dir.rename(folder / "postgres")
    return folder


@pytest.fixture
def environment(embedded: Path) -> dict[str, str]:
    return {**BARE, "WHERRY_DATA_DIR": str(embedded)}


def _create_and_list(folder: Path, environment: dict[str, str]) -> list[str]:
    create = ("create", "--email", CAPTAIN, "--username", "captain", "--role", "admin")
    created = wherry(folder, environment, "users", *create)
    assert created.returncode == 0, created.stderr
    listed = wherry(folder, environment, "users", "list", "--json")
    return [json.loads(line)["email"] for line in listed.stdout.splitlines()]


def test_a_stopped_embedded_server_is_started_for_the_command(embedded: Path, environment: dict[str, str]) -> None:
    assert _create_and_list(embedded, environment) == [CAPTAIN]
    assert not (embedded / "postgres" / "postmaster.pid").exists()


def test_an_embedded_server_that_runs_is_used(embedded: Path, environment: dict[str, str], binaries: Binaries) -> None:
    with EmbeddedPostgres(embedded / "postgres", binaries=binaries, options={"fsync": "off"}) as server:
        asyncio.run(migrate(server.url))
        pid = server.pid
        assert _create_and_list(embedded, environment) == [CAPTAIN]
        assert (server.is_running, server.pid) == (True, pid)


def test_without_a_database_the_command_says_so_and_creates_none(tmp_path: Path) -> None:
    ended = wherry(tmp_path, BARE, "users", "list")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "DATABASE_URL is not set" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_short_password_is_refused_in_one_line(users: Command) -> None:
    too_short = "password is too short (minimum is 8 characters)"
    asked = ("create", "--email", "short@example.com", "--username", "short", "--password-stdin")

    assert too_short in users.refused(*asked, given="1234567\n")
    assert too_short in users.refused("set-password", CAPTAIN, "--password-stdin", given="1234567\n")
    assert "short@example.com" not in users.listed()
