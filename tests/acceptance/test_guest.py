"""wherry in a database that belongs to somebody else: beside their tables, and with few rights."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.commands import wherry
from tests.factories import SMALL_GRAPH
from tests.gitnexus import GitNexusClient
from tests.processes import PASSWORD, Service, bare_environment, finished, forked_service, import_file, service
from wherry.database.migrations import MOVE

DECOYS = (
    *("users", "articles", "comments", "jobs", "import_errors", "job_events", "password_links", "login_addresses"),
    *("rate_limits", "api_tokens", "wherry_migrations", "procrastinate_jobs", "procrastinate_workers"),
    *("procrastinate_events", "procrastinate_periodic_defers", "job_history", "queue_pauses", "workers"),
    *("webhook_events", "webhook_attempts", "queue_turns"),
)
"""Names of wherry's tables."""

THEIRS = """
create type procrastinate_job_status as enum ('theirs');
create function procrastinate_fetch_job_v2(text) returns text language sql as 'select $1';
create function procrastinate_defer_jobs_v1(text[]) returns text language sql as 'select ''theirs''';
"""

CATALOG = """
select 'relation', relname, relkind::text, relacl::text from pg_class where relnamespace = 'public'::regnamespace
union all
select 'column', attrelid::regclass::text || '.' || attname, format_type(atttypid, atttypmod), attacl::text
from pg_attribute
join pg_class on pg_class.oid = attrelid
where relnamespace = 'public'::regnamespace
union all
select 'type', typname, typtype::text, typacl::text from pg_type where typnamespace = 'public'::regnamespace
union all
select 'function', proname, prosrc, proconfig::text from pg_proc where pronamespace = 'public'::regnamespace
union all
select 'constraint', conname, contype::text, null from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'trigger', tgname, tgrelid::regclass::text, null
from pg_trigger
join pg_class on pg_class.oid = tgrelid
where relnamespace = 'public'::regnamespace
union all
select 'schema', nspname, nspowner::regrole::text, nspacl::text from pg_namespace where nspname = 'public'
order by 1, 2, 3
"""

USERS = b"".join(
    json.dumps({"id": number, "email": f"user{number}@example.com", "name": f"User {number}"}).encode() + b"\n"
    for number in range(1000, 1050)
)


def command(url: str, folder: Path, *arguments: str) -> str:
    """Run `wherry` to its end; returns what it prints."""
    ended = wherry(folder, {**bare_environment(), "DATABASE_URL": url}, *arguments)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def use_everything(up: Service) -> None:
    """Register, log in, import, export, and build a capsule."""
    with up.admin() as client:
        captain = {"user": {"email": "captain@example.com", "password": PASSWORD}}
        assert client.post("/api/users/login", json=captain).status_code == 200
        done = finished(client, import_file(client, "users", USERS, key="import")["id"])
        assert (done["status"], done["successCount"]) == ("succeeded", 50), done
        bad = finished(client, import_file(client, "articles", b'{"slug": "a"}\n', key="errors")["id"])
        assert bad["status"] == "failed"
        assert client.get(f"/api/v1/imports/{bad['id']}/errors/download").status_code == 200
        export = client.post("/api/v1/exports", json={"resource": "users"}).raise_for_status().json()["exportJob"]
        assert finished(client, export["id"])["status"] == "succeeded"
        lines = client.get(f"/api/v1/exports/{export['id']}/download").raise_for_status().text.splitlines()
        assert len(lines) == 51
        page = client.get("/api/v1/exports", params={"resource": "users", "limit": 5}).raise_for_status()
        assert len(page.text.splitlines()) == 6  # the last one is the cursor
        assert client.get("/readyz").json()["status"] == "ok"
    with up.capsule_client() as client:
        capsules = GitNexusClient(client)
        assert list(capsules.stream(capsules.start(SMALL_GRAPH)["jobId"]))[-1]["type"] == "job_completed"


def test_tables_of_the_users_with_the_same_names_are_left_alone(empty_database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for table in DECOYS:
            name = sql.Identifier(table)
            connection.execute(sql.SQL("create table {} (theirs text primary key)").format(name))
            connection.execute(sql.SQL("insert into {} values ('theirs')").format(name))
        connection.execute(THEIRS)
        before = connection.execute(CATALOG).fetchall()
        command(empty_database_url, tmp_path, "migrate")
        with service(empty_database_url, tmp_path, workers=0) as up:
            up.start("--app=wherry.worker.app", "worker", program="procrastinate")
            use_everything(up)
        assert connection.execute(CATALOG).fetchall() == before
        for table in DECOYS:
            rows = connection.execute(sql.SQL("select * from {}").format(sql.Identifier(table))).fetchall()
            assert rows == [("theirs",)], table


AS_OLDER_VERSIONS = """
do $$
declare
  statement text;
begin
  for statement in
    select format('alter function %1$s reset search_path; alter function %1$s set schema public', oid::regprocedure)
    from pg_proc
    where pronamespace = 'wherry'::regnamespace
    union all
    select format('alter type %s set schema public', pg_type.oid::regtype)
    from pg_type
    left join pg_class on pg_class.oid = typrelid
    where typnamespace = 'wherry'::regnamespace
      and (typtype = 'e' or relkind = 'c')
    union all
    select format('alter table %s set schema public', oid::regclass)
    from pg_class
    where relnamespace = 'wherry'::regnamespace
      and relkind = 'r'
  loop
    execute statement;
  end loop;
  drop schema wherry;
end
$$
"""


def test_accounts_and_queued_jobs_of_an_older_version_survive_the_move(empty_database_url: str, tmp_path: Path) -> None:
    command(empty_database_url, tmp_path, "migrate")
    with forked_service(empty_database_url, tmp_path, workers=0) as up, up.admin() as client:
        job_id = import_file(client, "users", USERS, key="before")["id"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(AS_OLDER_VERSIONS)
    assert command(empty_database_url, tmp_path, "migrate") == f"applied {MOVE}\n"
    with forked_service(empty_database_url, tmp_path) as up, up.client() as client:
        captain = {"user": {"email": "captain@example.com", "password": PASSWORD}}
        token = client.post("/api/users/login", json=captain).raise_for_status().json()["user"]["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        done = finished(client, job_id)
        assert (done["status"], done["successCount"]) == ("succeeded", 50)
        assert import_file(client, "users", USERS, key="before")["id"] == job_id, "the key was moved, too"


@pytest.fixture
def role(empty_database_url: str) -> Iterator[str]:
    """A role that may log in, and no more."""
    name = f'wherry "test" {uuid.uuid4().hex[:8]}'
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def url_for(role: str, url: str) -> str:
    """The database's URL for another role."""
    given = conninfo_to_dict(url)
    return str(
        httpx.URL(f"postgresql://{given['host']}:{given['port']}/{given['dbname']}", username=role, password="x")
    )


def test_a_role_with_the_printed_grants_runs_everything(empty_database_url: str, role: str, tmp_path: Path) -> None:
    """The grants also hold for tables that a later migration creates. Tables of the users' need no more than before."""
    command(empty_database_url, tmp_path, "migrate")
    granting = command(empty_database_url, tmp_path, "migrate", "--print-grants", "--role", role)
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute("revoke all on schema public from public")
        owner.execute("revoke execute on all functions in schema wherry from public")
        owner.execute(granting.encode())
        owner.execute("create table wherry.later (id serial)")
        with forked_service(url_for(role, empty_database_url), tmp_path) as up:
            use_everything(up)
        users = {row[0] for row in owner.execute("select distinct usename from pg_stat_activity").fetchall()}
        assert role not in users, "the processes have ended"
        with psycopg.connect(url_for(role, empty_database_url), autocommit=True) as connection:
            connection.execute("insert into wherry.later default values")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("delete from wherry.wherry_migrations")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("create table wherry.mine ()")


TRIGGER = """
create schema theirs;
create table theirs.audit (email text);
create function theirs.note() returns trigger language plpgsql as $$
begin
  insert into audit values (new.email);
  return new;
end
$$;
create trigger note after insert on wherry.users for each row execute function theirs.note();
"""


def test_triggers_of_the_users_run_with_their_own_search_path(
    empty_database_url: str, role: str, tmp_path: Path
) -> None:
    command(empty_database_url, tmp_path, "migrate")
    granting = command(empty_database_url, tmp_path, "migrate", "--print-grants", "--role", role)
    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute(TRIGGER)
        owner.execute(granting.encode())
        their_role = sql.Identifier(role)
        owner.execute(sql.SQL("grant usage on schema theirs to {}").format(their_role))
        owner.execute(sql.SQL("grant insert on theirs.audit to {}").format(their_role))
        owner.execute(sql.SQL("alter role {} set search_path = theirs").format(their_role))
        with forked_service(url_for(role, empty_database_url), tmp_path) as up:
            use_everything(up)
        assert owner.execute("select count(*) from theirs.audit").fetchone() == (51,)
