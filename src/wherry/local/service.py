"""Runs the whole service on one machine, for `up` and `demo`. It is stopped in the order API, workers, database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from wherry.accounts.mail import Mailer
from wherry.database.migrations import migrate
from wherry.database.pools import connect
from wherry.errors import Unavailable
from wherry.local.binaries import find_binaries
from wherry.local.data_directory import (
    cluster_directory,
    generated_secrets,
    private_directory,
    recorded_url,
    secrets_file,
)
from wherry.local.embedded import EmbeddedPostgres
from wherry.local.processes import Child, listen
from wherry.local.supervision import keep_serving
from wherry.settings import Settings
from wherry.storage.store import Store
from wherry.tables.adoption import add_to_file, propose
from wherry.tables.declarations import DEFAULT_PATH, find_declarations
from wherry.tables.registry import require_usable

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: the URL of the API.
        database: describes the PostgreSQL that it uses.
        database_url: the URL of that PostgreSQL itself, without a pooler.
        api_key: the key of the capsule routes; None if there is none.
        secrets_file: contains the generated secrets.
        failed: raises the reason if a part of the service cannot be kept running.
    """

    url: str
    database: str
    database_url: str
    api_key: str | None
    secrets_file: Path
    failed: asyncio.Future[None]


@asynccontextmanager
async def running(settings: Settings, *, workers: int = 1, tables: str | None = None) -> AsyncIterator[Service]:
    """Start everything and wait until it is ready; stop everything at the end.

    Args:
        settings: of the service.
        workers: the number of worker processes.
        tables: a pattern of tables to offer besides those that are declared, such as `shop.*`.

    Raises:
        Misconfigured, Unavailable: something did not start; the message says what and why.
    """
    data_dir = private_directory(settings.wherry_data_dir)
    _require_usable(settings)
    with ExitStack() as stack:
        sock = stack.enter_context(listen(settings.host, settings.port))
        url = settings.model_copy(update={"port": sock.getsockname()[1]}).local_url
        generated = generated_secrets(settings, data_dir)
        stack.enter_context(recorded_url(data_dir, url))
        database_serves = asyncio.Event()
        database_serves.set()
        server = None if settings.database_url else await _embedded(settings, data_dir, stack)
        database = f"{server.binaries}, in {server.data_dir}" if server else "DATABASE_URL"
        database_url = server.url if server else settings.require_direct_url()
        await migrate(database_url)
        tables_file = settings.tables_file if tables is None else await _offer(database_url, settings, tables, data_dir)
        await require_usable(database_url, find_declarations(tables_file))
        environment = {
            **os.environ,
            **generated,
            "DATABASE_URL": settings.database_url or database_url,
            "DATABASE_URL_FILE": "",  # already read into DATABASE_URL
            "WHERRY_DATA_DIR": str(data_dir),
            **({"TABLES_FILE": str(tables_file.absolute())} if tables_file else {}),
        }
        sock.set_inheritable(True)
        children = [Child(["api", "--fd", str(sock.fileno())], environment, database_serves, [sock.fileno()])]
        children += [Child(["worker"], environment, database_serves) for _ in range(workers)]
        parts: list[Coroutine[Any, Any, None]] = [child.keep_alive() for child in children]
        if server is not None:
            parts.append(keep_serving(server, database_serves))
        async with _kept_alive(parts) as failed:
            await _wait_until_ready(url, failed)
            api_key = generated.get("MEMVID_EXPORT_API_KEY") or settings.capsule_api_key()
            yield Service(url, database, database_url, api_key, secrets_file(data_dir), failed)


async def _offer(database_url: str, settings: Settings, pattern: str, data_dir: Path) -> Path:
    """Write a file that declares what is declared already, and every table that matches the pattern."""
    path, source = data_dir / "tables.toml", settings.tables_file or DEFAULT_PATH
    declared = find_declarations(settings.tables_file)
    path.write_text(source.read_text("utf-8") if source.exists() else "", "utf-8")
    async with await connect(database_url, name="wherry tables") as connection:
        found = await propose(connection, pattern, declared)
    add_to_file(path, found.tables)
    return path


async def _embedded(settings: Settings, data_dir: Path, stack: ExitStack) -> EmbeddedPostgres:
    server = EmbeddedPostgres(cluster_directory(data_dir), binaries=find_binaries(settings.pg_bindir))
    stack.callback(server.stop)
    await asyncio.to_thread(server.start)
    return server


@asynccontextmanager
async def _kept_alive(parts: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.Future[None]]:
    """Run every part; at the end, stop them one after the other, in this order."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def record_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_exception(error)

    tasks = [asyncio.create_task(part) for part in parts]
    for task in tasks:
        task.add_done_callback(record_failure)
    try:
        yield failed
    finally:
        for task in tasks:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        failed.cancel()


async def _wait_until_ready(url: str, failed: asyncio.Future[None]) -> None:
    # The socket is already listening, so this request waits in its backlog until the API accepts it.
    async with httpx.AsyncClient(trust_env=False, timeout=READY_SECONDS) as client:
        request = asyncio.ensure_future(client.get(f"{url}/readyz"))
        waited: list[asyncio.Future[Any]] = [request, failed]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            request.cancel()
            failed.result()
        try:
            response = await request
        except httpx.HTTPError as error:
            raise Unavailable(f"the API does not respond at {url}: {error!r}") from error
        if response.status_code != 200:
            raise Unavailable(f"the API is not ready: {response.text}")


def _require_usable(settings: Settings) -> None:
    """Refuse settings here that each process would otherwise refuse at every restart."""
    settings.open_roots(Store)
    if settings.smtp_url is not None:
        Mailer.from_url(settings.smtp_url.get_secret_value(), settings.smtp_from)
