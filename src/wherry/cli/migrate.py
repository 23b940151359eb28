"""`wherry migrate`: brings the database's schema to what this version needs."""

from __future__ import annotations

import asyncio

from rich.console import Console

from wherry.database import migrations
from wherry.settings import load_settings


def migrate() -> None:
    """Bring the database named by DATABASE_URL to this version's schema.

    Safe to run at any time, any number of times, by several processes at once.
    """
    settings = load_settings()
    console = Console()

    def tell(name: str) -> None:
        console.print(f"[green]applied[/] {name}", highlight=False)

    if not asyncio.run(migrations.migrate(settings.require_database_url(), tell)):
        console.print("nothing to do: the schema is current")
