"""`wherry migrate`, as an operator runs it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.processes import bare_environment
from wherry.database.migrations import missing_steps, own_steps, pending, queue_steps
from wherry.database.pools import connect


def _migrate(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wherry", "migrate"]
    environment = {**bare_environment(), "DATABASE_URL": url, "COLUMNS": "400"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def _applied(output: str) -> list[str]:
    return [line.removeprefix("applied ") for line in output.splitlines() if line.startswith("applied ")]


@pytest.fixture
def stranger(empty_database_url: str) -> Iterator[str]:
    """The URL of a database for a role that may connect to it, and no more."""
    name = f"wherry test {uuid.uuid4().hex[:8]}"
    role = sql.Identifier(name)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'x'").format(role))
        given = conninfo_to_dict(empty_database_url)
        host, port, database = given["host"], given["port"], given["dbname"]
        yield f"postgresql://{name.replace(' ', '%20')}:x@{host}:{port}/{database}"
        connection.execute(sql.SQL("drop owned by {}").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


async def test_it_applies_and_names_exactly_the_migrations_that_were_announced(
    empty_database_url: str, tmp_path: Path
) -> None:
    async with await connect(empty_database_url, name="test") as connection:
        announced = await pending(connection)
        done = _migrate(empty_database_url, tmp_path)
        assert done.returncode == 0
        assert _applied(done.stdout) == announced == [*(step.name for step in own_steps()), "procrastinate"]
        assert await pending(connection) == []
    again = _migrate(empty_database_url, tmp_path)
    assert (again.returncode, again.stdout) == (0, "nothing to do: the schema is up to date\n")


def test_a_database_with_some_of_the_queues_steps_lacks_the_others_one_by_one() -> None:
    known = {step.name: step.checksum for step in [*own_steps(), *queue_steps()[:-2]]}
    assert missing_steps(known) == queue_steps()[-2:]


def test_a_role_that_may_not_create_tables_gets_one_line_with_the_solution(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    refused = _migrate(stranger, tmp_path)
    (line,) = refused.stderr.strip().splitlines()
    assert refused.returncode == 2
    assert _applied(refused.stdout) == []
    assert line.startswith('wherry: the role "wherry test ')

    _, _, statement = line.partition("run: ")
    assert statement.startswith('grant usage, create on schema "public" to ')
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute(statement.encode())
    assert _migrate(stranger, tmp_path).returncode == 0


def test_a_role_that_owns_nothing_can_check_that_the_schema_is_up_to_date(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    assert _migrate(empty_database_url, tmp_path).returncode == 0
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute("grant select on wherry_migrations to public")
    seen = _migrate(stranger, tmp_path)
    assert (seen.returncode, seen.stdout) == (0, "nothing to do: the schema is up to date\n")


def test_an_existing_table_with_the_same_name_is_reported_in_one_line(empty_database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create table jobs ()")
    refused = _migrate(empty_database_url, tmp_path)
    assert refused.returncode == 2
    assert _applied(refused.stdout) == ["0001_records"]
    assert refused.stderr.strip() == 'wherry: migration 0002_jobs failed: relation "jobs" already exists'
