"""Exports that read from a hot standby."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.processes import Service, finished, forked_service
from wherry.database.migrations import migrate
from wherry.local.embedded import EmbeddedPostgres

USERS = "insert into wherry.users (id, email, username, name) select n, n || '@example.com', n, 'User' from {} as n"


@pytest.fixture
async def primary(own_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    await migrate(own_postgres.url)
    return own_postgres


@pytest.fixture
def standby(primary: EmbeddedPostgres, open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A copy that follows."""
    folder = open_folder / "standby"
    command = [primary.binaries.program("pg_basebackup"), "-d", primary.url, "-D", str(folder), "-R", "-c", "fast"]
    subprocess.run(command, check=True)
    owner = primary.data_dir.stat()
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(folder)], check=True)
    with EmbeddedPostgres(folder, binaries=primary.binaries, options={"hot_standby_feedback": "on"}) as server:
        yield server


@pytest.fixture
def running(primary: EmbeddedPostgres, standby: EmbeddedPostgres, tmp_path: Path) -> Iterator[Service]:
    with forked_service(primary.url, tmp_path, EXPORT_DATABASE_URL=standby.url) as up:
        yield up


def test_an_export_reads_what_the_standby_has_received(
    running: Service, primary: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    with (
        running.admin() as client,
        psycopg.connect(primary.url, autocommit=True) as writer,
        psycopg.connect(standby.url, autocommit=True) as reader,
    ):
        writer.execute(USERS.format("generate_series(2, 5000)").encode())
        there = writer.execute("select pg_current_wal_lsn()::text").fetchone()
        while reader.execute("select pg_last_wal_replay_lsn() < %s::pg_lsn", there).fetchone() == (True,):
            pass
        reader.execute("select pg_wal_replay_pause()")
        writer.execute(USERS.format("generate_series(5001, 6000)").encode())
        asked = client.post("/api/v1/exports", json={"resource": "users", "fields": ["id"]}).json()
        job = finished(client, asked["exportJob"]["id"])
        assert (job["status"], job["totalRecords"]) == ("succeeded", 5000)
        lines = client.get(job["downloadUrl"]).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == list(range(1, 5001))
