"""`wherry migrate`: applies missing migrations."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from wherry.database import migrations, schema
from wherry.errors import Misconfigured
from wherry.settings import load_settings


def migrate(
    *, print_grants: Annotated[bool, Parameter(negative="", show_default=False)] = False, role: str | None = None
) -> None:
    """Apply missing migrations to the database of DATABASE_URL.

    Safe to run again, and by several processes at once. Creates everything in the schema `wherry`; the role of
    DATABASE_URL must own that schema, or be allowed to create it.

    Parameters
    ----------
    print_grants
        Change nothing, but print the SQL that lets another role run the API and the workers.
    role
        That other role (default: wherry_service).
    """
    if print_grants:
        sys.stdout.write(f"{schema.grants(role or 'wherry_service')}\n")
        return
    if role is not None:
        raise Misconfigured("--role needs --print-grants")
    settings = load_settings()
    console = Console()

    def report(name: str) -> None:
        console.print(f"[green]applied[/] {name}", highlight=False)

    if not asyncio.run(migrations.migrate(settings.require_direct_url(), report)):
        console.print("nothing to do: the schema is up to date")
