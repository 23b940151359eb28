"""The databases that tests use."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres import TestServer, plan, with_database


def test_each_test_gets_its_own_migrated_database(postgres_server: TestServer, database_url: str) -> None:
    other = postgres_server.create()
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("create table only_here ()")
        with psycopg.connect(other) as connection:
            tables = {name for (name,) in connection.execute("select tablename from pg_tables").fetchall()}
    finally:
        postgres_server.drop(other)
    assert "wherry_migrations" in tables
    assert "only_here" not in tables


async def test_a_database_can_be_used_with_asyncio(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute("select 1")).fetchone()
    assert row == (1,)


def test_a_database_is_dropped_despite_an_open_connection(postgres_server: TestServer) -> None:
    url = postgres_server.create_empty()
    with psycopg.connect(url, autocommit=True) as connection:
        postgres_server.drop(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_replacing_the_database_keeps_the_rest_of_the_url() -> None:
    assert with_database("postgresql://u:p%40ss@h:1/a?sslmode=disable", "b/c") == (
        "postgresql://u:p%40ss@h:1/b%2Fc?sslmode=disable"
    )


def test_auto_prefers_test_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://x@127.0.0.1:1/postgres")
    assert plan("auto").name == "url"
    assert plan("embedded").name == "embedded"


def test_url_requires_test_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    with pytest.raises(pytest.UsageError, match="TEST_DATABASE_URL"):
        plan("url")


def test_only_auto_falls_back_if_docker_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    with pytest.raises(pytest.UsageError, match="Docker"):
        plan("docker")
    assert plan("auto").name == "embedded"
