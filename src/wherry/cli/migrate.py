"""`wherry migrate`: applies missing migrations."""

from __future__ import annotations

import asyncio

from rich.console import Console

from wherry.database import migrations
from wherry.settings import load_settings


def migrate() -> None:
    """Apply missing migrations to the database of DATABASE_URL.

    Safe to run again, and by several processes at once. Creates everything in the schema `wherry`; the role of
    DATABASE_URL must own that schema, or be allowed to create it.
    """
    settings = load_settings()
    console = Console()

    def report(name: str) -> None:
        console.print(f"[green]applied[/] {name}", highlight=False)

    if not asyncio.run(migrations.migrate(settings.require_database_url(), report)):
        console.print("nothing to do: the schema is up to date")
