"""Runs wherry's commands as processes, which a test may kill; all of them end with the test."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.commands import Fork
from wherry.local.embedded import HOST
from wherry.settings import Settings

SECRET = "a secret of at least thirty-two bytes, for tests"
API_KEY = "a key for tests, long enough"
PASSWORD = "a long and salty password"
START_SECONDS = 90

Process = subprocess.Popen[bytes] | Fork


def bare_environment() -> dict[str, str]:
    """This process's environment without any of wherry's settings."""
    return {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}


class Service:
    """An API process and any number of workers on one database and one data directory."""

    def __init__(self, database_url: str, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PG", "IMPORT_", "EXPORT_"))},
            "DATABASE_URL": database_url,
            "WHERRY_DATA_DIR": str(data_dir),
            "JWT_SECRET": SECRET,
            "MEMVID_EXPORT_API_KEY": API_KEY,
            "LOG_LEVEL": "info",
            **settings,
        }
        self._processes: list[Process] = []
        self.log = data_dir / "processes.log"
        self.url = ""

    def start(self, *command: str, program: str = "wherry", listener: socket.socket | None = None) -> Process:
        """A command of `wherry`, or of another Python program, as a process in its own session."""
        process = self._start(program, command, listener)
        self._processes.append(process)
        return process

    def _start(self, program: str, command: tuple[str, ...], listener: socket.socket | None) -> Process:
        inherited = () if listener is None else (listener.fileno(),)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", program, *command, *(f"--fd={number}" for number in inherited)],
                env=self.environment,
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                start_new_session=True,
            )

    def worker(self) -> Process:
        """Start another worker."""
        return self.start("worker")

    def api(self) -> Process:
        """Start another API process, on another port; from now on, `url` is its URL."""
        with socket.create_server((HOST, 0)) as listener:
            self.url = f"http://{HOST}:{listener.getsockname()[1]}"
            process = self.start("api", listener=listener)
            # It waits in the listener's backlog until the process serves.
            httpx.get(f"{self.url}/readyz", timeout=START_SECONDS, trust_env=False).raise_for_status()
        return process

    def client(self, **options: Any) -> httpx.Client:
        """A client of the service."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def admin(self, **options: Any) -> httpx.Client:
        """A client with the token of the first account, which is an admin."""
        with self.client() as client:
            user = {"username": "captain", "email": "captain@example.com", "password": PASSWORD}
            answer = client.post("/api/users", json={"user": user})
            if answer.status_code == 422:
                answer = client.post("/api/users/login", json={"user": user})
            token = answer.raise_for_status().json()["user"]["token"]
        return self.client(headers={"Authorization": f"Bearer {token}"}, **options)

    def capsule_client(self) -> httpx.Client:
        """A client with the key of the capsule routes."""
        return self.client(headers={"Authorization": f"Bearer {API_KEY}"})

    def stop(self) -> None:
        """End every process that is still running."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class ForkedService(Service):
    """A service whose processes are forks of one that has loaded wherry: they start in a tenth of the time."""

    def _start(self, program: str, command: tuple[str, ...], listener: socket.socket | None) -> Process:
        assert program == "wherry"
        streams = Path(os.devnull), self.log, self.log
        return Fork(*command, environment=self.environment, folder=self.data_dir, streams=streams, listener=listener)


@contextmanager
def service(database_url: str, data_dir: Path, *, workers: int = 1, **settings: str) -> Iterator[Service]:
    """A running service."""
    with _running(Service(database_url, data_dir, **settings), workers) as running:
        yield running


@contextmanager
def forked_service(database_url: str, data_dir: Path, *, workers: int = 1, **settings: str) -> Iterator[Service]:
    """A running service that started quickly."""
    with _running(ForkedService(database_url, data_dir, **settings), workers) as running:
        yield running


@contextmanager
def _running(running: Service, workers: int) -> Iterator[Service]:
    try:
        for _ in range(workers):
            running.worker()
        running.api()  # waits until it serves, while the workers start
        yield running
    finally:
        running.stop()


class Up:
    """A running `wherry up`, with its data in `folder/.wherry` or in `WHERRY_DATA_DIR`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.log = folder / "up.log"
        self.url = ""
        self._cluster = Path(settings.get("WHERRY_DATA_DIR", folder / ".wherry"), "postgres")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wherry", "up", "--port", "0"],
                cwd=folder,
                env={**bare_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        """Wait for the service, and learn its URL."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"wherry is up\s+(http://\S+:\d+)", self.log.read_text()):
                self.url = found[1]
                return
            time.sleep(0.1)
        raise AssertionError(f"wherry up did not come up:\n{self.log.read_text()}")

    @property
    def postmaster(self) -> int:
        """The process id of its embedded server."""
        return int(self._pid_file()[0])

    @property
    def database_url(self) -> str:
        """The URL of its embedded database."""
        return f"postgresql://postgres@127.0.0.1:{self._pid_file()[3]}/postgres"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal; returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def _pid_file(self) -> list[str]:
        return (self._cluster / "postmaster.pid").read_text().splitlines()


@contextmanager
def wherry_up(folder: Path, **settings: str) -> Iterator[Up]:
    """`wherry up` in a folder, once it is up; killed at the end unless the test has stopped it."""
    up = Up(folder, **settings)
    try:
        up.wait_until_up()
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()


def import_file(
    client: httpx.Client, resource: str, content: bytes, *, key: str, name: str = "records.ndjson", **options: str
) -> dict[str, Any]:
    """Upload a file with a form; returns the job."""
    answer = client.post(
        "/api/v1/imports",
        headers={"Idempotency-Key": key},
        files={"file": (name, content)},
        data={"resource": resource, **options},
    )
    answer.raise_for_status()
    return dict(answer.json()["importJob"])


def finished(client: httpx.Client, job_id: str, seconds: float = 120) -> dict[str, Any]:
    """Follow the events of an import or export until it ends; returns the job."""
    deadline = time.monotonic() + seconds
    with client.stream("GET", f"/api/v1/jobs/{job_id}/events", timeout=seconds) as events:
        events.raise_for_status()
        name = ""
        for line in events.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == "finished":
                return dict(httpx.Response(200, text=line.removeprefix("data: ")).json())
            if time.monotonic() > deadline:
                break
    raise AssertionError(f"job {job_id} did not end within {seconds} s")


def pids_of(argument: str | Path, *, parent: int | None = None) -> list[int]:
    """The running processes that have this argument: all of them, or those of one parent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            its_parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if os.fsencode(argument) in arguments and parent in (None, its_parent):
                found.append(int(folder.name))
    return found
