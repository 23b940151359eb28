"""The data directory of `wherry up`: the embedded database, the URL of the running service, generated secrets."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from wherry.database.migrations import migrate, require_ready
from wherry.errors import DataDirectoryInUse, Misconfigured
from wherry.local.binaries import find_binaries
from wherry.local.embedded import EmbeddedPostgres, url_of_running
from wherry.local.server_account import account_for, closed_folder
from wherry.setting_values import WEBHOOK_SECRET_PREFIX
from wherry.settings import Settings

URL_FILE = "url"
SHARED_STATE = Path("/var/lib/wherry")


def _new_token() -> str:
    return secrets.token_urlsafe(48)


def _new_webhook_secret() -> str:
    return WEBHOOK_SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode()


GENERATED = {"JWT_SECRET": _new_token, "MEMVID_EXPORT_API_KEY": _new_token, "WEBHOOK_SECRET": _new_webhook_secret}
"""The secrets that are generated, and how."""


def private_directory(path: Path) -> Path:
    """Create the data directory, private to its owner, if it is missing. Returns its absolute path.

    Raises:
        Misconfigured: it cannot be created.
    """
    try:
        # If root starts it, the embedded server runs as another account, which must be able to enter its own folder.
        path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"WHERRY_DATA_DIR must be a directory that can be created: {error}") from error
    return path.resolve()


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
def recorded_url(data_dir: Path, url: str) -> Iterator[None]:
    """Record the URL of the running service for other commands in this data directory."""
    file = data_dir / URL_FILE
    file.write_text(url, "utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def service_url(settings: Settings) -> str:
    """The base URL of links: PUBLIC_URL, else the URL of the `wherry up` in this data directory, else HOST and PORT."""
    file = settings.wherry_data_dir / URL_FILE
    if settings.public_url is not None or not file.exists():
        return settings.public_url or settings.local_url
    return file.read_text("utf-8")


@contextmanager
def database_of(settings: Settings) -> Iterator[str]:
    """The URL of a migrated database. An embedded server that is not running is started, and stopped at the end.

    Raises:
        Misconfigured: DATABASE_URL is not set, and `wherry up` has not been run with this data directory.
        Unavailable: the database cannot be reached, does not start, or lacks migrations.
    """
    if settings.database_url is not None:
        url = settings.require_direct_url()
        asyncio.run(require_ready(url))
        yield url
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


def secrets_file(data_dir: Path) -> Path:
    """The file with the generated secrets."""
    return data_dir / "secrets.json"


def generated_secrets(settings: Settings, data_dir: Path) -> dict[str, str]:
    """Secrets for the settings that are missing, generated once and kept in a file that only its owner can read.

    Raises:
        Misconfigured: the file cannot be used. It is never replaced, as every login and client depends on it.
    """
    file = secrets_file(data_dir)
    try:
        complete = _complete_secrets(file)
    except OSError as error:
        raise Misconfigured(
            f"{file} cannot be read and written ({error.strerror}): WHERRY_DATA_DIR must be a directory that "
            "this account may write to"
        ) from error
    return {name: value for name, value in complete.items() if getattr(settings, name.lower()) is None}


def _complete_secrets(file: Path) -> dict[str, str]:
    with _locked(file.parent):  # another service may be starting in the same directory
        kept = _secrets_in(file) if file.exists() else {}
        complete = {name: kept.get(name) or generate() for name, generate in GENERATED.items()}
        if complete != kept:
            # renamed once it is complete, so that a process that is killed here leaves no damaged file
            unfinished = file.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
                json.dump(complete, opened, indent=1)
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
    return complete


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _secrets_in(file: Path) -> dict[str, str]:
    if file.stat().st_mode & 0o077:
        raise Misconfigured(f"{file} can be read by other accounts: run `chmod 600 {file}`")
    text = file.read_bytes()
    try:
        return msgspec.json.decode(text, type=dict[str, Annotated[str, Meta(min_length=1)]])
    except (msgspec.DecodeError, ValueError, RecursionError):
        state = "is damaged" if text.strip() else "is empty"
        raise Misconfigured(
            f"{file} {state}: restore it from a backup, or delete it to generate new secrets, which ends all logins "
            "and changes the capsule key and the webhook secret"
        ) from None
