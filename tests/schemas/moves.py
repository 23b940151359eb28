"""Moves whole schemas over HTTP, and says what PostgreSQL itself sees of them."""

from __future__ import annotations

import os
import subprocess
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.commands import wherry
from tests.postgres import PREFIX, TestServer, with_database
from tests.processes import finished, forked_service, import_file
from tests.schemas.applications import Application
from tests.schemas.catalog import Catalog, Table, read_catalog
from tests.schemas.json_text import SESSION
from wherry.local.binaries import find_binaries
from wherry.tables.declarations import parse_table_name


@dataclass(frozen=True)
class Running:
    """A service on a filled schema, whose tables were declared with `wherry tables add`.

    Attributes:
        application: whose schema it is.
        url: of the database.
        catalog: of the schema.
        resources: the names of the tables that were added, and of their resources.
        added: what `wherry tables add` printed.
        order: resources as `wherry tables order` prints them.
        before: the dump from before wherry.
        client: of an admin.
    """

    application: Application
    url: str
    catalog: Catalog
    resources: dict[str, str]
    added: str
    order: list[str]
    before: str
    client: httpx.Client

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """A connection that writes values as wherry promises to."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(SESSION.encode())
            yield connection


@contextmanager
def running(server: TestServer, application: Application, filled: str, folder: Path) -> Iterator[Running]:
    """Do what a user does: migrate, declare the tables of a schema, and start the service.

    Args:
        server: of the databases.
        application: whose schema it is.
        filled: the URL of a database with the schema, which is copied.
        folder: for `tables.toml` and all that the service stores.
    """
    url = copied(server, filled, application)
    environment = {"DATABASE_URL": url, "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    try:
        before = dump(url)
        with psycopg.connect(url) as connection:
            catalog = read_catalog(connection, application.schema)
        commands = [("migrate",), ("tables", "add", f"{application.schema}.*"), ("tables", "order")]
        printed = [_run(folder, environment, *command) for command in commands]
        file = folder / "tables.toml"
        resources = {parse_table_name(text).name: name for name, text in _declared(file)}
        with forked_service(url, folder, TABLES_FILE=str(file)) as service, service.admin() as client:
            yield Running(application, url, catalog, resources, printed[1], printed[2].split(), before, client)
    finally:
        server.drop(url)


def copied(server: TestServer, url: str, application: Application) -> str:
    """A copy of a database that nobody is connected to."""
    old, new = str(conninfo_to_dict(url)["dbname"]), f"{PREFIX}{server.run}_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        statement = sql.SQL("create database {} template {} strategy file_copy")
        connection.execute(statement.format(*map(sql.Identifier, (new, old))))
    copy = with_database(server.url, new)
    application.set_search_path(copy)
    return copy


def dump(url: str) -> str:
    """Every definition in a database except wherry's own, as `pg_dump -s` prints it."""
    ended = subprocess.run(
        [_pg_dump(), "--schema-only", "--exclude-schema=wherry", url], capture_output=True, text=True, check=True
    )
    # Newer versions print a random key.
    return "\n".join(line for line in ended.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


@cache
def _pg_dump() -> str:
    return find_binaries(os.environ.get("PG_BINDIR")).program("pg_dump")


def digests(connection: psycopg.Connection, catalog: Catalog) -> dict[str, str]:
    """A digest of the rows of each table, as PostgreSQL sees them."""
    return {name: _one(connection, _DIGEST.format(table.sql.as_string())) for name, table in catalog.tables.items()}


_DIGEST = "select md5(coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '')) from {} as t"


def stale_sequences(connection: psycopg.Connection, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Tables whose sequence would give the next row a number that is taken, each with a reason. Uses up numbers."""
    for table in catalog.tables.values():
        for column in table.columns.values():
            if column.is_numbered:
                name, quoted = sql.Identifier(column.name).as_string(), table.sql.as_string()
                sequence = (
                    f"pg_get_serial_sequence({sql.Literal(quoted).as_string()}, {sql.Literal(column.name).as_string()})"
                )
                following = _one(connection, f"select nextval({sequence})")
                if _one(connection, f"select count(*) from {quoted} where {name} >= {following}"):
                    yield table.name, f"the next {column.name} would be {following}, but there are rows after it"


def export_all(moved: Running, format_: str) -> dict[str, bytes | str]:
    """The artifact of every table, by its name; a text says why there is none."""
    asked = {
        name: moved.client.post("/api/v1/exports", json={"resource": resource, "format": format_})
        for name, resource in moved.resources.items()
    }
    return {name: _artifact(moved.client, answer) for name, answer in asked.items()}


def _artifact(client: httpx.Client, answer: httpx.Response) -> bytes | str:
    if answer.status_code != 202:
        return f"the export was refused: {answer.text[:300]}"
    job = finished(client, answer.json()["exportJob"]["id"])
    return client.get(job["downloadUrl"]).content if job["status"] == "succeeded" else f"the export failed: {job}"


def import_all(
    moved: Running, files: dict[str, bytes], before_each: Callable[[str], None], format_: str
) -> dict[str, str]:
    """Import the files of tables in the order of `wherry tables order`, and then those that triggers write.

    Returns why the import of some failed, by the names of the tables.
    """
    names = {resource: name for name, resource in moved.resources.items()}
    wanted = [names[resource] for resource in moved.order if names.get(resource) in files]
    wanted.sort(key=lambda name: name in moved.application.written_by_triggers)
    faults = {}
    for name in wanted:
        before_each(name)
        fault = import_one(moved.client, moved.resources[name], files[name], format_)
        if fault is not None:
            faults[name] = fault
    return faults


def import_one(client: httpx.Client, resource: str, content: bytes, format_: str) -> str | None:
    """Import one file. Returns what is wrong if not every record was imported."""
    try:
        job = imported(client, resource, content, format_, key=f"{resource} {format_}")
    except httpx.HTTPStatusError as refused:
        return f"the import was refused: {refused.response.text[:300]}"
    if job["status"] == "succeeded":
        return None
    errors = client.get(f"/api/v1/imports/{job['id']}/errors?limit=3").text
    counts = f"{job['successCount']} of {job['processedRecords']} records"
    return f"the import {job['status']} ({job['error']}): {counts}; {errors[:600]}"


def imported(client: httpx.Client, resource: str, content: bytes, format_: str, *, key: str) -> dict[str, Any]:
    """The job of an import, when it has ended."""
    job = import_file(client, resource, content, key=key, name=f"records.{format_}", format=format_)
    return finished(client, job["id"])


def count_rows(connection: psycopg.Connection, table: Table) -> int:
    """How many rows a table has."""
    return int(_one(connection, f"select count(*) from {table.sql.as_string()}"))


def wipe(connection: psycopg.Connection, catalog: Catalog, names: Iterable[str]) -> None:
    """Empty tables, and let their sequences begin again."""
    tables = sql.SQL(", ").join(catalog.tables[name].sql for name in names)
    connection.execute(sql.SQL("truncate {} restart identity cascade").format(tables))


def _one(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _run(folder: Path, environment: dict[str, str], *command: str) -> str:
    ended = wherry(folder, environment, *command)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _declared(file: Path) -> Iterator[tuple[str, str]]:
    for name, value in tomllib.loads(file.read_text())["tables"].items():
        yield name, value if isinstance(value, str) else value["table"]
