"""`wherry up`: runs the whole service on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from wherry.local.processes import cancel_on_signal
from wherry.local.service import Service, running
from wherry.logs import configure_logs
from wherry.settings import Settings, load_settings


def up(*, port: int | None = None, data_dir: Path | None = None, workers: int = 1, tables: str | None = None) -> None:
    """Run the database, the API and the workers on this machine, until Ctrl-C or SIGTERM.

    Needs no settings. Without DATABASE_URL it runs an embedded PostgreSQL, whose data is in the data directory with
    everything else. Missing secrets are generated once and kept there, readable only by you.

    Parameters
    ----------
    port
        Port of the API. [default: PORT, else 3000]
    data_dir
        Directory for all data. [default: WHERRY_DATA_DIR, else ./.wherry]
    workers
        Number of worker processes; each runs JOB_WORKER_CONCURRENCY jobs at a time.
    tables
        Tables to offer besides those that are declared: schema and name, where * is any text, such as 'shop.*'
    """
    if sys.stderr.isatty():
        os.environ.setdefault("LOG_PRETTY", "true")  # for the person at the terminal; the child processes inherit it
    settings = load_settings(port=port, wherry_data_dir=data_dir)
    configure_logs(settings)
    asyncio.run(_serve(settings, workers, tables))


async def _serve(settings: Settings, workers: int, tables: str | None) -> None:
    console = Console()
    cancel_on_signal()
    try:
        async with running(settings, workers=workers, tables=tables) as service:
            console.print(_banner(service))
            await service.failed  # pending while every part is running
    except asyncio.CancelledError:
        console.print("stopped")


def _banner(service: Service) -> Table:
    table = Table.grid(padding=(0, 2))
    # Text, not markup: the brackets in an IPv6 address or a folder's name are not tags.
    table.add_row("[bold green]wherry is up[/]", Text(service.url, Style(link=service.url)))
    table.add_row("database", Text(service.database))
    table.add_row("secrets", Text(str(service.secrets_file)))
    table.add_row("try", Text(f"curl {service.url}/readyz"))
    table.add_row("stop", "Ctrl-C")
    return table
