"""`wherry demo`: imports, exports and builds a capsule over HTTP, on a temporary embedded PostgreSQL.

The exit status is 0 only if every check passed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from wherry.cli.demo_report import Report, summary
from wherry.cli.demo_steps import Demo
from wherry.local.processes import cancel_on_signal
from wherry.local.server_account import temporary_folder
from wherry.local.service import running
from wherry.logs import configure_logs
from wherry.settings import Settings, load_settings

PARENT = Path("/var/tmp")


def demo(*, users: int = 5_000, articles: int = 50_000, comments: int = 100_000) -> None:
    """See wherry work: an import with errors, an export, a round trip and a code capsule, on an embedded PostgreSQL.

    Needs no settings and leaves nothing behind. One record in a hundred is broken on purpose.

    Parameters
    ----------
    users
        Accounts to import.
    articles
        Articles to import.
    comments
        Comments to import.
    """
    console = Console()
    with temporary_folder("wherry-demo-", PARENT) as folder:
        settings = _bare_settings(folder)
        configure_logs(settings)
        report = asyncio.run(_run(console, settings, (users, articles, comments)))
    if report is None:
        sys.exit(130)
    console.print(summary(report))
    sys.exit(0 if report.all_met else 1)


async def _run(console: Console, settings: Settings, sizes: tuple[int, int, int]) -> Report | None:
    cancel_on_signal()
    try:
        async with AsyncExitStack() as stack:
            with console.status("starting PostgreSQL, API and worker"):
                up = await stack.enter_async_context(running(settings))
            console.print(
                f"[bold]wherry[/] is up on {escape(up.url)}, PostgreSQL: {escape(up.database)}", highlight=False
            )
            return await Demo(console, up, sizes).run()
    except asyncio.CancelledError:
        console.print("stopped")
        return None


def _bare_settings(folder: Path) -> Settings:
    """The default settings, with data in `folder`; environment variables and `.env` files are ignored."""
    for name in Settings.model_fields:
        for variable in (name, name.upper(), f"{name}_file".upper()):
            os.environ.pop(variable, None)
    os.chdir(folder)
    os.environ["LOG_LEVEL"] = "warning"
    return load_settings(wherry_data_dir=folder, port=0)
