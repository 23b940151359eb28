"""`wherry up` runs everything, stops cleanly, and finds its data again at the next start."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.processes import bare_environment, wherry_up

IMPORT_SECONDS = 90


def _onboarding_link(client: httpx.Client) -> str:
    """The link for an imported account."""
    client.post(
        "/api/v1/imports?resource=users",
        headers={"Idempotency-Key": "one", "Content-Type": "application/x-ndjson"},
        content=b'{"id":77,"email":"new@example.com","name":"New"}\n',
    ).raise_for_status()
    deadline = time.monotonic() + IMPORT_SECONDS
    while (answer := client.post("/api/v1/users/77/onboarding-link")).status_code == 404:
        assert time.monotonic() < deadline, "the import does not end"
        time.sleep(0.1)
    return str(answer.raise_for_status().json()["url"])


def _reset_link(folder: Path) -> str:
    """The link that `wherry users` prints in the directory of the running service."""
    command = [sys.executable, "-m", "wherry", "users", "reset-link", "captain@example.com"]
    return subprocess.check_output(command, cwd=folder, env=bare_environment(), text=True)


def _running_below(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory is the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve().is_relative_to(folder):
                found.append((entry / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def test_it_serves_stops_cleanly_and_keeps_its_data(open_folder: Path) -> None:
    user = {"username": "captain", "email": "captain@example.com", "password": "a long and salty password"}
    with wherry_up(open_folder) as up, httpx.Client(base_url=up.url, trust_env=False, timeout=30) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        registered = client.post("/api/users", json={"user": user})
        assert registered.status_code == 201
        client.headers["Authorization"] = f"Bearer {registered.json()['user']['token']}"
        assert _onboarding_link(client).startswith(f"{up.url}/")
        assert f"{up.url}/set-password#token=" in _reset_link(open_folder)
        secrets = open_folder / ".wherry" / "secrets.json"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        kept = secrets.read_text()
        assert up.stop(signal.SIGTERM) == 0
    assert _running_below(open_folder) == []
    with wherry_up(open_folder) as up, httpx.Client(base_url=up.url, trust_env=False, timeout=30) as client:
        assert client.post("/api/users/login", json={"user": user}).status_code == 200
        assert secrets.read_text() == kept
        assert up.stop(signal.SIGINT) == 0
    assert _running_below(open_folder) == []


def test_it_serves_on_an_ipv6_address(open_folder: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 loopback")
    with wherry_up(open_folder, HOST="::1") as up, httpx.Client(base_url=up.url, trust_env=False, timeout=30) as client:
        assert up.url.startswith("http://[::1]:")
        assert client.get("/readyz").status_code == 200
        assert up.stop(signal.SIGTERM) == 0
