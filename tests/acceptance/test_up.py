"""`wherry up` runs everything, stops cleanly, and finds its data again at the next start."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from wherry.settings import Settings

START_SECONDS = 90


@contextmanager
def _up(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    log = folder / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "wherry", "up", "--port", "0"],
            cwd=folder,
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
            start_new_session=True,
        )
    try:
        yield process, _address(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"wherry is up\s+(http://(127\.0\.0\.1|\[::1\]):\d+)", log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.1)
    raise AssertionError(f"wherry up did not come up:\n{log.read_text()}")


def _stop(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    return process.wait(30)


def _onboarding_link(client: httpx.Client, url: str) -> str:
    """The link for an imported account."""
    client.post(
        f"{url}/api/v1/imports?resource=users",
        headers={"Idempotency-Key": "one", "Content-Type": "application/x-ndjson"},
        content=b'{"id":77,"email":"new@example.com","name":"New"}\n',
    ).raise_for_status()
    deadline = time.monotonic() + START_SECONDS
    while (answer := client.post(f"{url}/api/v1/users/77/onboarding-link")).status_code == 404:
        assert time.monotonic() < deadline, "the import does not end"
        time.sleep(0.1)
    return str(answer.raise_for_status().json()["url"])


def _reset_link(folder: Path) -> str:
    """The link that `wherry users` prints in the directory of the running service."""
    environment = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    command = [sys.executable, "-m", "wherry", "users", "reset-link", "captain@example.com"]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


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


def test_it_serves_stops_cleanly_and_finds_everything_again(open_folder: Path) -> None:
    user = {"username": "captain", "email": "captain@example.com", "password": "a long and salty password"}
    with _up(open_folder) as (process, url), httpx.Client(trust_env=False, timeout=30) as client:
        assert client.get(f"{url}/healthz").json()["status"] == "ok"
        registered = client.post(f"{url}/api/users", json={"user": user})
        assert registered.status_code == 201
        client.headers["Authorization"] = f"Bearer {registered.json()['user']['token']}"
        assert _onboarding_link(client, url).startswith(f"{url}/")
        assert f"{url}/set-password#token=" in _reset_link(open_folder)
        secrets = open_folder / ".wherry" / "secrets.json"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        kept = secrets.read_text()
        assert _stop(process, signal.SIGTERM) == 0
    assert _running_below(open_folder) == []
    with _up(open_folder) as (process, url), httpx.Client(trust_env=False, timeout=30) as client:
        assert client.post(f"{url}/api/users/login", json={"user": user}).status_code == 200
        assert secrets.read_text() == kept
        assert _stop(process, signal.SIGINT) == 0
    assert _running_below(open_folder) == []


def test_it_serves_on_an_ipv6_address(open_folder: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 loopback")
    with _up(open_folder, HOST="::1") as (process, url), httpx.Client(trust_env=False, timeout=30) as client:
        assert url.startswith("http://[::1]:")
        assert client.get(f"{url}/readyz").status_code == 200
        assert _stop(process, signal.SIGTERM) == 0
