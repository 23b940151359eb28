"""The PostgreSQL that the tests use: one server per run, with a migrated template, and a copy of it per test.

`--pg` chooses the server:

auto      TEST_DATABASE_URL if it is set, else a container if Docker is running, else embedded
url       TEST_DATABASE_URL, whose role must be allowed to create databases
docker    a container; an error if Docker is not running
embedded  the server that `wherry up` uses
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from wherry.database import migrations
from wherry.local.binaries import find_binaries
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.server_account import temporary_folder

CHOICES = ("auto", "url", "docker", "embedded")
IMAGE = "postgres:18.6"
PREFIX = "wherry_test_"
ROOMY = 4 << 30  # bytes
TEMPLATE_LOCK = 7_246_183  # any number that nothing else locks


def with_database(url: str, database: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))


@dataclass(frozen=True)
class TestServer:
    """A server that tests share, from every worker process of a run.

    Attributes:
        url: of a database that always exists, with a role that may create databases.
        description: describes it to people.
        run: distinguishes this run's databases from another run's on the same server.
    """

    __test__ = False

    url: str
    description: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def template(self) -> str:
        """The name of this run's migrated template."""
        return f"{PREFIX}{self.run}_template"

    def create(self) -> str:
        """Create a new, migrated database. Returns its URL."""
        self._require_template()
        name = f"{PREFIX}{self.run}_{uuid.uuid4().hex[:12]}"
        # measured on small databases: copying files takes half of the time that the write-ahead log does
        statement = sql.SQL("create database {} template {} strategy file_copy")
        self._execute(statement.format(*map(sql.Identifier, (name, self.template))))
        return with_database(self.url, name)

    def create_empty(self) -> str:
        """Create a database without any migrations. Returns its URL."""
        name = f"{PREFIX}{self.run}_{uuid.uuid4().hex[:12]}"
        self._execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        return with_database(self.url, name)

    def drop(self, url: str) -> None:
        """Drop a database, even if it has connections."""
        name = str(conninfo_to_dict(url)["dbname"])
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def drop_all(self) -> None:
        """Drop every database of this run, the template too."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute(
                "select datname from pg_database where starts_with(datname, %s)", [f"{PREFIX}{self.run}_"]
            ).fetchall()
        for (name,) in rows:
            self.drop(with_database(self.url, name))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _require_template(self) -> None:
        """Create the template once per run: the first process that needs it does, and the others wait for the lock."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if self._has_template(connection):
                return
            connection.execute("select pg_advisory_lock(%s)", [TEMPLATE_LOCK])
            if self._has_template(connection):
                return
            # renamed when it is complete, so that a failed migration leaves no template
            draft = f"{self.template}_draft"
            self.drop(with_database(self.url, draft))
            connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(draft)))
            with ThreadPoolExecutor(1) as apart:  # a loop may already run in this thread
                apart.submit(lambda: asyncio.run(migrations.migrate(with_database(self.url, draft)))).result()
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(*map(sql.Identifier, (draft, self.template)))
            )

    def _has_template(self, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        found = connection.execute("select 1 from pg_database where datname = %s", [self.template])
        return found.fetchone() is not None


@dataclass(frozen=True)
class Plan:
    """Which server a run will use, decided but not started.

    Attributes:
        name: one of `CHOICES` but auto.
        reason: why it was chosen.
    """

    name: str
    reason: str

    def open(self) -> AbstractContextManager[TestServer]:
        """Start the server, if necessary. Leaving the context drops every test database and stops what was started."""
        return {"url": _given, "docker": _container, "embedded": _embedded}[self.name](self.reason)


def plan(choice: str) -> Plan:
    """Decide which server to use. `docker` and `url` never fall back to another.

    Raises:
        pytest.UsageError: the requested server is not available.
    """
    if choice == "url" or (choice == "auto" and os.environ.get("TEST_DATABASE_URL")):
        if not os.environ.get("TEST_DATABASE_URL"):
            raise pytest.UsageError("--pg=url needs TEST_DATABASE_URL")
        return Plan("url", "TEST_DATABASE_URL")
    if choice == "embedded":
        return Plan("embedded", "--pg=embedded")
    fault = _docker_fault()
    if fault is None:
        return Plan("docker", "Docker is running")
    if choice == "docker":
        raise pytest.UsageError(f"--pg=docker needs Docker: {fault}")
    return Plan("embedded", "Docker is not running")


def _docker_fault() -> str | None:
    """Why no container can be started, or None. A Docker client does not suffice: the engine must respond."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as missing:
        return str(missing)
    with warnings.catch_warnings():
        # a client that cannot connect does not close its socket, which would cause a warning later
        warnings.simplefilter("ignore", ResourceWarning)
        fault = None
        try:
            client = docker.from_env(timeout=3)
            client.ping()
            client.close()
        except (DockerException, OSError) as unanswered:
            fault = str(unanswered)
        gc.collect()
    return fault


@contextmanager
def quick_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, in memory if there is enough: `initdb` takes a third of the time there."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOMY
    with temporary_folder(prefix, parent=memory if roomy else None) as folder:
        yield folder


@contextmanager
def _serving(url: str, what: str) -> Iterator[TestServer]:
    with psycopg.connect(url) as connection:
        version = connection.info.parameter_status("server_version")
    server = TestServer(url, f"PostgreSQL {version}, {what}")
    try:
        yield server
    finally:
        server.drop_all()


@contextmanager
def _given(reason: str) -> Iterator[TestServer]:
    with _serving(os.environ["TEST_DATABASE_URL"], reason) as server:
        yield server


@contextmanager
def _container(reason: str) -> Iterator[TestServer]:
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(IMAGE, driver=None) as container:
        with _serving(container.get_connection_url(), f"container {IMAGE} ({reason})") as server:
            yield server


@contextmanager
def _embedded(reason: str) -> Iterator[TestServer]:
    binaries = find_binaries(os.environ.get("PG_BINDIR"))
    with quick_folder("wherry-tests-") as folder:
        # no test crashes the machine, so nothing has to be flushed to the disk
        with EmbeddedPostgres(folder / "postgres", binaries=binaries, options={"fsync": "off"}) as postgres:
            with _serving(postgres.url, f"embedded from {binaries.source} ({reason})") as server:
                yield server
