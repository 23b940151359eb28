"""`wherry demo`: imports, exports, builds a capsule and adopts a schema, on a temporary embedded PostgreSQL.

The exit status is 0 only if every check passed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from wherry.cli.client import Client
from wherry.cli.demo_jobs import Jobs
from wherry.cli.demo_report import Report, summary
from wherry.cli.demo_shop import CREATE, DROP, PATTERN, declare, move_shop, run_sql
from wherry.cli.demo_steps import make_capsule, move_records
from wherry.local.processes import cancel_on_signal
from wherry.local.server_account import temporary_folder
from wherry.local.service import Service, running
from wherry.logs import configure_logs
from wherry.settings import Settings, load_settings
from wherry.tables.declarations import DEFAULT_PATH

PARENT = Path("/var/tmp")


def demo(*, users: int = 5_000, articles: int = 50_000, comments: int = 100_000, prices: int = 20_000) -> None:
    """See wherry work: imports with errors, a round trip, a code capsule, and a schema that it has never seen.

    Runs on an embedded PostgreSQL, needs no settings and leaves nothing behind. One record in a hundred is broken on
    purpose.

    Parameters
    ----------
    users
        Accounts to import.
    articles
        Articles to import.
    comments
        Comments to import.
    prices
        Records to import into a table of the schema that wherry has never seen.
    """
    console = Console()
    with temporary_folder("wherry-demo-", PARENT) as folder:
        settings = _bare_settings(folder)
        configure_logs(settings)
        report = asyncio.run(_run(Demo(console, settings), (users, articles, comments), prices))
    if report is None:
        sys.exit(130)
    console.print(summary(report))
    sys.exit(0 if report.all_met else 1)


async def _run(demo: Demo, sizes: tuple[int, int, int], prices: int) -> Report | None:
    cancel_on_signal()
    try:
        with TemporaryDirectory() as name:
            return await demo.run(sizes, prices, Path(name))
    except asyncio.CancelledError:
        demo.console.print("stopped")
        return None


class Demo:
    """One run of the demo.

    Args:
        console: shows what happens.
        settings: of the service.
    """

    def __init__(self, console: Console, settings: Settings) -> None:
        self.console = console
        self._settings = settings
        self._report = Report()

    async def run(self, sizes: tuple[int, int, int], prices: int, folder: Path) -> Report:
        """Run every step; return what was measured and checked."""
        async with AsyncExitStack() as stack:
            async with self._service("starting PostgreSQL, API and worker") as up:
                self._say(f"[bold]wherry[/] is up on {escape(up.url)}, PostgreSQL: {escape(up.database)}")
                client = await stack.enter_async_context(Client(up.url, api_key=up.api_key))
                await client.register("captain", "captain@example.com", "a long and salty password")
                with Jobs(self.console, client, self._report) as jobs:
                    await move_records(jobs, sizes, folder)
                    await make_capsule(jobs, folder)
                await self._declare_shop(up.database_url)
            self._settings = self._settings.model_copy(update={"port": urlsplit(up.url).port})  # the client's
            async with self._service("restarting, to read tables.toml") as up:
                with Jobs(self.console, client, self._report) as jobs:
                    await move_shop(jobs, up.database_url, prices, folder)
                await run_sql(up.database_url, DROP)
        return self._report

    @asynccontextmanager
    async def _service(self, what: str) -> AsyncIterator[Service]:
        async with AsyncExitStack() as stack:
            with self.console.status(what):
                up = await stack.enter_async_context(running(self._settings))
            yield up

    async def _declare_shop(self, database_url: str) -> None:
        """Make a schema, and declare its tables in the working directory, where the service looks for declarations."""
        await run_sql(database_url, CREATE)
        lines = await declare(database_url, DEFAULT_PATH)
        added = f"[bold]wherry tables add '{PATTERN}'[/]"
        self._say(f"\na schema that wherry has never seen; {added} writes {DEFAULT_PATH}:")
        for line in lines:
            self._say(f"  [cyan]{escape(line)}[/]")
        declared = [line for line in lines if "demo_shop." in line]
        claim = f"demo_shop took {len(declared)} lines of declaration, one for each table, and no code"
        self._report.expect(claim, lines, ["[tables]", *declared])

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


def _bare_settings(folder: Path) -> Settings:
    """The default settings, with data in `folder`; environment variables and `.env` files are ignored."""
    for name in Settings.model_fields:
        for variable in (name, name.upper(), f"{name}_file".upper()):
            os.environ.pop(variable, None)
    os.chdir(folder)
    os.environ["LOG_LEVEL"] = "warning"
    return load_settings(wherry_data_dir=folder, port=0)
