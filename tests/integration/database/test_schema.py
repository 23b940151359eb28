"""An older installation, in another schema, is moved into the schema `wherry`, with all that belongs to it."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg import sql

from tests.older import STEP_BY_STEP, WHOLE, install_old
from wherry.database import schema
from wherry.database.migrations import MOVE, Step, migrate, own_steps, pending, queue_steps
from wherry.database.pools import connect
from wherry.errors import Misconfigured, Unavailable

Connection = psycopg.Connection[tuple[object, ...]]

OBJECTS = """
select 'relation', oid, relname from pg_class where relnamespace = %(schema)s::regnamespace
union all
select 'type', oid, typname from pg_type where typnamespace = %(schema)s::regnamespace
union all
select 'function', oid, proname from pg_proc where pronamespace = %(schema)s::regnamespace
union all
select 'constraint', oid, conname from pg_constraint where connamespace = %(schema)s::regnamespace
union all
select 'trigger', pg_trigger.oid, tgname
from pg_trigger
join pg_class on pg_class.oid = tgrelid
where relnamespace = %(schema)s::regnamespace
  and not tgisinternal  -- those of foreign keys, which may be the user's
"""

USERS_OWN = """
create table jobs_archive (id integer primary key);
create table procrastinate_archive (id bigserial primary key);
create table colleagues (id integer);
create view active_users as select id, email from users where active;
create type job_status as enum ('open', 'shut');
create function users() returns bigint language sql as 'select count(*) from users';
create function procrastinate_count() returns bigint language sql as 'select count(*) from procrastinate_jobs';
create table notes (author_id integer references users (id));
"""

ROWS = """
insert into users (id, email, username, name) values (7, 'a@x.org', 'a', 'A');
insert into users (email, username, name) values ('b@x.org', 'b', 'B');
select setval('users_id_seq', 41);
insert into articles (slug, title, body, description, author_id, status) values ('s', 't', 'b', 'd', 7, 'draft');
insert into jobs (id, kind, resource, format)
values ('018f0000-0000-7000-8000-000000000001', 'import', 'users', 'ndjson');
"""
QUEUED = """
insert into procrastinate_jobs (queue_name, task_name, args)
values ('import', 'wherry.run_job', '{"job_id": "018f0000-0000-7000-8000-000000000001"}');
"""


def objects(connection: Connection, name: str) -> set[tuple[object, ...]]:
    """The kinds, oids and names of everything in a schema."""
    return set(connection.execute(OBJECTS, {"schema": name}).fetchall())


def tables(connection: Connection, name: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables in a schema."""
    names = connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace and relkind = 'r'", [name]
    ).fetchall()
    return {
        str(table): connection.execute(
            sql.SQL("select t::text from {} as t").format(sql.Identifier(name, str(table)))
        ).fetchall()
        for (table,) in names
    }


@pytest.mark.parametrize("steps", [WHOLE, STEP_BY_STEP], ids=["whole queue", "step by step"])
async def test_a_move_takes_all_of_wherrys_objects_and_none_of_the_users(
    empty_database_url: str, steps: list[Step]
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        empty = objects(connection, "public")
        install_old(connection, steps)
        wherrys = objects(connection, "public") - empty
        connection.execute(ROWS)
        connection.execute(QUEUED)
        connection.execute(USERS_OWN)
        users = objects(connection, "public") - wherrys
        rows = tables(connection, "public")

        assert await migrate(empty_database_url) == [MOVE]
        assert objects(connection, "public") == users
        assert objects(connection, "wherry") == wherrys
        assert {**tables(connection, "public"), **tables(connection, "wherry")} == rows

        assert await migrate(empty_database_url) == []
        assert objects(connection, "wherry") == wherrys


async def test_after_a_move_ids_references_and_views_work_as_before(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, WHOLE)
        connection.execute(ROWS)
        connection.execute(USERS_OWN)
        await migrate(empty_database_url)
        insert = "insert into wherry.users (email, username, name) values ('c@x.org', 'c', 'C') returning id"
        assert connection.execute(insert).fetchone() == (42,)
        assert connection.execute("select count(*) from active_users").fetchone() == (3,)
        connection.execute("insert into notes values (42)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("delete from wherry.users where id = 42")


async def test_an_installation_without_later_steps_gets_them_after_the_move(empty_database_url: str) -> None:
    """A table of the user's that has the name of a table in a step that was not applied is the user's."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, [*own_steps()[:4], *queue_steps()[:-2]])
        connection.execute("create table api_tokens (mine text)")
        missing = [MOVE, *(step.name for step in (*own_steps()[4:], *queue_steps()[-2:]))]
        async with await connect(empty_database_url, name="test") as opened:
            assert await pending(opened) == missing
        assert await migrate(empty_database_url) == missing
        assert list(tables(connection, "public")) == ["api_tokens"]
        moved = tables(connection, "wherry").keys()
        assert {"api_tokens", "users", "jobs", "procrastinate_jobs", "wherry_migrations"} <= moved


async def test_two_processes_move_an_installation_once(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, WHOLE)
        connection.execute(ROWS)
    done = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(done) == [[], [], [], [MOVE]]


@pytest.mark.parametrize("table", ["users", "procrastinate_periodic_defers", "wherry_migrations"])
async def test_a_move_that_meets_a_running_transaction_gives_up_and_moves_nothing(
    empty_database_url: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MOVE_PATIENCE", "50ms")
    with psycopg.connect(empty_database_url) as busy, psycopg.connect(empty_database_url, autocommit=True) as other:
        install_old(other, WHOLE)
        before = objects(other, "public")
        busy.execute(sql.SQL("lock table {} in row share mode").format(sql.Identifier(table)))
        with pytest.raises(Unavailable, match="stop the API and the workers"):
            await migrate(empty_database_url)
        assert objects(other, "public") == before
        assert other.execute("select to_regnamespace('wherry')").fetchone() == (None,)
        busy.rollback()
        assert await migrate(empty_database_url) == [MOVE]


async def test_a_move_that_meets_a_table_of_the_same_name_moves_nothing(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, WHOLE)
        connection.execute("create schema wherry")
        connection.execute("create table wherry.users (mine text)")
        before = objects(connection, "public")
        with pytest.raises(Misconfigured, match='relation "users" already exists in schema "wherry"'):
            await migrate(empty_database_url)
        assert objects(connection, "public") == before


async def test_an_installation_is_found_in_the_schema_of_the_search_path(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create schema app")
        connection.execute("set search_path = app")
        install_old(connection, WHOLE)
        wherrys = objects(connection, "app")
        assert await migrate(f"{empty_database_url}?options=-csearch_path%3Dapp") == [MOVE]
        assert objects(connection, "wherry") == wherrys
        assert objects(connection, "app") == set()


@pytest.mark.parametrize("columns", ["id integer", "name text, checksum text, applied_at date"])
async def test_somebody_elses_table_of_migrations_is_not_an_installation(empty_database_url: str, columns: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"create table wherry_migrations ({columns})".encode())
        before = objects(connection, "public")
        assert await migrate(empty_database_url) == [step.name for step in WHOLE]
        assert objects(connection, "public") == before


async def test_every_function_works_under_any_search_path(empty_database_url: str) -> None:
    """Those that were moved, and those that a later step created."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, [*own_steps(), *queue_steps()[:-2]])
        await migrate(empty_database_url)
        functions = connection.execute(
            "select proname, proconfig from pg_proc where pronamespace = 'wherry'::regnamespace"
        ).fetchall()
        assert len(functions) >= 18
        # This one reads values of the user's own types, which may need the user's own search path.
        assert [name for name, config in functions if config != ["search_path=wherry"]] == ["input_fault"]


async def test_a_step_runs_in_the_schema_under_any_search_path(empty_database_url: str) -> None:
    """Whatever the role's search path is, and although its tables have the same names as wherry's."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create table users (mine text)")
        await migrate(f"{empty_database_url}?options=-csearch_path%3Dpg_catalog")
        assert list(tables(connection, "public")) == ["users"]
        keys = connection.execute("select confrelid::regclass::text from pg_constraint where contype = 'f'").fetchall()
        assert {str(key).partition(".")[0] for (key,) in keys} == {"wherry"}


def test_the_grants_quote_the_role() -> None:
    printed = schema.grants('no "role"; drop table users; --')
    assert printed.count('"no ""role""; drop table users; --"') == len(
        [line for line in printed.splitlines() if line.endswith(";")]
    )


async def test_an_installation_whose_steps_were_changed_is_not_moved(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        install_old(connection, WHOLE)
        connection.execute("update wherry_migrations set checksum = 'another' where name = '0001_records'")
        before = objects(connection, "public")
        with pytest.raises(Misconfigured, match="0001_records was changed after it had been applied"):
            await migrate(empty_database_url)
        assert objects(connection, "public") == before
