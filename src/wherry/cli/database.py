"""The database that a command uses: DATABASE_URL, else the embedded one of `wherry up`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.database.binaries import find_binaries
from wherry.database.embedded import EmbeddedPostgres, url_of_running
from wherry.database.migrations import migrate, require_ready
from wherry.database.server_account import account_for, closed_folder
from wherry.errors import DataDirectoryInUse, Misconfigured
from wherry.settings import Settings

URL_FILE = "url"
SHARED_STATE = Path("/var/lib/wherry")


def cluster_directory(data_dir: Path) -> Path:
    """The embedded server's directory: inside the data directory, if the server's account can enter that.

    PostgreSQL refuses to run as root, and the account that it runs as instead cannot enter root's home directory.
    """
    inside = data_dir / "postgres"
    if closed_folder(inside, account_for(inside)) is None:
        return inside
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return SHARED_STATE / name / "postgres"


@contextmanager
def noted_url(data_dir: Path, url: str) -> Iterator[None]:
    """Record the URL of the running service for other commands in this data directory."""
    note = data_dir / URL_FILE
    note.write_text(url, "utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def service_url(settings: Settings) -> str:
    """The start of links: PUBLIC_URL, else the URL of the `wherry up` in this data directory, else HOST and PORT."""
    note = settings.wherry_data_dir / URL_FILE
    if settings.public_url is not None or not note.exists():
        return settings.public_url or settings.local_url
    return note.read_text("utf-8")


@contextmanager
def reached_database(settings: Settings) -> Iterator[str]:
    """The URL of a migrated database. An embedded server that is not running is started, and stopped at the end.

    Raises:
        Misconfigured: DATABASE_URL is not set, and `wherry up` has not been run with this data directory.
        Unavailable: the database cannot be reached, does not start, or lacks migrations.
    """
    if settings.database_url is not None:
        asyncio.run(require_ready(settings.database_url))
        yield settings.database_url
        return
    server = EmbeddedPostgres(_existing_cluster(settings.wherry_data_dir), binaries=find_binaries(settings.pg_bindir))
    try:
        server.start()
    except DataDirectoryInUse:
        url = url_of_running(server.data_dir)
        asyncio.run(require_ready(url))  # another version of wherry may have started it
        yield url
        return
    try:
        asyncio.run(migrate(server.url))
        yield server.url
    finally:
        server.stop()


def _existing_cluster(data_dir: Path) -> Path:
    try:
        cluster = cluster_directory(data_dir.resolve())
        if cluster.is_dir():
            return cluster
    except PermissionError as error:
        raise Misconfigured(f"WHERRY_DATA_DIR must be a directory that you may enter: {error}") from error
    raise Misconfigured(
        f"there is no database: DATABASE_URL is not set, and {data_dir.absolute()} has no embedded one. Set "
        "DATABASE_URL or WHERRY_DATA_DIR, or run this in the directory of `wherry up`"
    )
