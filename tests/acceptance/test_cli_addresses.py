"""Links for setting a password contain the address that the API really listens on."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import psycopg

from tests.processes import START_SECONDS, Service, finished, import_file
from wherry.local.embedded import HOST


def onboarding_link(admin: httpx.Client) -> str:
    """The link for an imported account."""
    job = import_file(admin, "users", b'{"id":77,"email":"new@example.com","name":"New"}\n', key="one")
    assert finished(admin, job["id"])["status"] == "succeeded"
    return str(admin.post("/api/v1/users/77/onboarding-link").raise_for_status().json()["url"])


def test_a_link_contains_the_port_of_an_inherited_socket(running: Service, admin: httpx.Client) -> None:
    assert onboarding_link(admin).startswith(f"{running.url}/")


def test_a_link_contains_the_port_from_the_command_line(database_url: str, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    service = Service(database_url, tmp_path, HOST=HOST, PORT="1")
    service.url = f"http://{HOST}:{port}"
    try:
        service.start("api", "--port", str(port))
        _wait_until_ready(service.url)
        with service.admin() as admin:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(
                    "insert into wherry.users (id, username, name, email) values (77, 'new', 'New', 'new@example.com')"
                )
            answer = admin.post("/api/v1/users/77/onboarding-link").raise_for_status()
            assert answer.json()["url"].startswith(f"{service.url}/")
    finally:
        service.stop()


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/readyz", trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers on {url}")
