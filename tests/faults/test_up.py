"""`wherry up` recovers by itself, without losing anything, if its PostgreSQL is killed or its disk fills up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.faults import load
from tests.processes import PASSWORD, Up, wherry_up
from wherry.errors import Unavailable
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.supervision import keep_serving

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]

SECONDS = 60


@contextmanager
def up_with_admin(folder: Path, data: Path, **settings: str) -> Iterator[tuple[Up, httpx.Client]]:
    """The service, and an admin's client."""
    with wherry_up(folder, WHERRY_DATA_DIR=str(data), **settings) as service:
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            user = {"username": "captain", "email": "captain@example.com", "password": PASSWORD}
            answer = client.post("/api/users", json={"user": user}).raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['user']['token']}"
            yield service, client


def _wait_for_log(service: Up, text: str) -> None:
    deadline = time.monotonic() + SECONDS
    while text not in service.log.read_text():
        assert time.monotonic() < deadline, f"{text} is not in the log"
        time.sleep(0.1)


def _wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"not serving again within {SECONDS} s")


def _wait_for_rows(url: str, beyond: int) -> None:
    deadline = time.monotonic() + SECONDS
    while load.progress(url) <= beyond:
        assert time.monotonic() < deadline, "the import makes no progress"
        time.sleep(0.05)


def _expect_each_record_once(service: Up, client: httpx.Client, jobs: list[load.Import]) -> None:
    load.wait_for_end(client, jobs, SECONDS)
    for outcome in load.outcomes(client, service.database_url, jobs):
        assert outcome.is_complete, outcome


def test_a_killed_postgresql_is_restarted_and_the_import_loses_no_record(open_folder: Path) -> None:
    with up_with_admin(open_folder, open_folder / "data", IMPORT_BATCH_SIZE="500") as (service, client):
        jobs = load.submit(client, 0, 1, 40_000)
        url = service.database_url
        _wait_for_rows(url, 0)
        killed = service.postmaster
        os.kill(killed, signal.SIGKILL)
        _wait_for_log(service, "PostgreSQL is running again")
        _wait_until_ready(client)
        assert service.postmaster != killed
        assert service.database_url == url
        _expect_each_record_once(service, client, jobs)
        assert service.stop() == 0


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir(mode=0o711)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this environment does not allow mounting file systems: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(1 << 16))
    with suppress(OSError), filler.open("ab", buffering=0) as out:
        while True:
            out.write(bytes(512))
    return filler


def _write_ahead_until_it_panics(url: str) -> None:
    """Fill the write-ahead log, until there is no room for its next file."""
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        while True:
            connection.execute("select pg_logical_emit_message(true, 'test', repeat('x', 1000000))")


def test_service_resumes_after_a_full_disk_has_room_again(open_folder: Path) -> None:
    elsewhere = {"IMPORT_STORAGE_PATH": str(open_folder / "imports")}
    with _small_disk(open_folder, 400) as disk:
        with up_with_admin(open_folder, disk / "data", IMPORT_BATCH_SIZE="500", **elsewhere) as (service, client):
            jobs = load.submit(client, 0, 1, 40_000)
            url = service.database_url
            _wait_for_rows(url, 0)
            filler = _fill(disk)
            _write_ahead_until_it_panics(url)
            _wait_for_log(service, "PostgreSQL did not start")
            assert client.get("/readyz").status_code == 503
            filler.unlink()
            _wait_until_ready(client)
            _expect_each_record_once(service, client, jobs)
            assert service.stop() == 0


async def test_a_postgresql_that_cannot_restart_is_reported_with_the_reason(
    own_postgres: EmbeddedPostgres,
) -> None:
    (own_postgres.data_dir / "global" / "pg_control").rename(own_postgres.data_dir / "pg_control.lost")
    serving = asyncio.Event()
    kept = asyncio.create_task(keep_serving(own_postgres, serving, waits=(0, 0.1, 0.1)))
    await serving.wait()
    os.kill(own_postgres.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="could not find the database system"):
        await asyncio.wait_for(kept, SECONDS)
    assert not serving.is_set()
