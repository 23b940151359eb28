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

from tests.older import WHOLE, install_old
from tests.processes import bare_environment
from wherry.database.migrations import MOVE, missing_steps, own_steps, pending, queue_steps
from wherry.database.pools import connect


def _migrate(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wherry", "migrate", *options]
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


def _solution(refused: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """What a refusal says, and the statement that it recommends."""
    (line,) = refused.stderr.strip().splitlines()
    assert refused.returncode == 2
    assert _applied(refused.stdout) == []
    reason, _, statement = line.partition("run: ")
    assert reason.startswith('wherry: the role "wherry test ')
    return reason, statement


def test_a_role_that_may_not_create_the_schema_gets_one_line_with_the_solution(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    reason, statement = _solution(_migrate(stranger, tmp_path))
    assert "may not create the schema wherry" in reason
    assert statement.startswith('grant create on database "wherry_test_')
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute(statement.encode())
    assert _migrate(stranger, tmp_path).returncode == 0


def test_a_role_that_may_not_create_tables_in_the_schema_gets_one_line_with_the_solution(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute("create schema wherry")
        reason, statement = _solution(_migrate(stranger, tmp_path))
        assert "may not create tables in the schema wherry" in reason
        assert statement.startswith("grant usage, create on schema wherry to ")
        owner.execute(statement.encode())
    assert _migrate(stranger, tmp_path).returncode == 0


def test_a_role_with_a_schema_wherry_of_its_own_needs_no_other_right(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        role = sql.Identifier(str(conninfo_to_dict(stranger)["user"]))
        owner.execute(sql.SQL("create schema wherry authorization {}").format(role))
    assert _migrate(stranger, tmp_path).returncode == 0


def test_a_role_that_ran_an_older_version_needs_one_more_right_to_move_its_tables(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        role = sql.Identifier(str(conninfo_to_dict(stranger)["user"]))
        owner.execute(sql.SQL("grant usage, create on schema public to {}").format(role))
        with psycopg.connect(stranger, autocommit=True) as older:
            install_old(older, WHOLE)
        _, statement = _solution(_migrate(stranger, tmp_path))
        assert _migrate(stranger, tmp_path).returncode == 2
        owner.execute(statement.encode())
        owner.execute(sql.SQL("revoke create on schema public from {}").format(role))
        assert _applied(_migrate(stranger, tmp_path).stdout) == [MOVE]


def test_another_role_cannot_move_the_tables_of_an_older_version(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        install_old(owner, WHOLE)
        role = sql.Identifier(str(conninfo_to_dict(stranger)["user"]))
        owner.execute(sql.SQL("grant create on database {} to {}").format(sql.Identifier(owner.info.dbname), role))
        owner.execute(sql.SQL("grant select on wherry_migrations to {}").format(role))
        refused = _migrate(stranger, tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.strip().endswith("run wherry migrate as the role that ran it before")
        assert owner.execute("select to_regnamespace('wherry')").fetchone() == (None,)


def test_a_role_is_named_only_for_its_grants(tmp_path: Path) -> None:
    refused = _migrate("postgresql://127.0.0.1:1/x", tmp_path, "--role", "somebody")
    assert (refused.returncode, refused.stderr.strip()) == (2, "wherry: --role needs --print-grants")


def test_a_role_that_owns_nothing_can_check_that_the_schema_is_up_to_date(
    stranger: str, empty_database_url: str, tmp_path: Path
) -> None:
    assert _migrate(empty_database_url, tmp_path).returncode == 0
    refused = _migrate(stranger, tmp_path)
    assert refused.returncode == 2
    assert "may not read wherry's tables" in refused.stderr
    assert "wherry migrate --print-grants" in refused.stderr
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute("grant usage on schema wherry to public")
        owner.execute("grant select on wherry.wherry_migrations to public")
    seen = _migrate(stranger, tmp_path)
    assert (seen.returncode, seen.stdout) == (0, "nothing to do: the schema is up to date\n")


def test_an_existing_table_with_the_same_name_is_reported_in_one_line(empty_database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create schema wherry")
        connection.execute("create table wherry.jobs ()")
    refused = _migrate(empty_database_url, tmp_path)
    assert refused.returncode == 2
    assert _applied(refused.stdout) == ["0001_records"]
    assert refused.stderr.strip() == 'wherry: migration 0002_jobs failed: relation "jobs" already exists'
