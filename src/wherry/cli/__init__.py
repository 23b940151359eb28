"""The command line: `wherry up`, `api`, `worker`, `migrate`, `demo`, `tables`, `users`.

The exit status is 0, 1 on failure, 2 for bad arguments or settings, or 130 after Ctrl-C.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from cyclopts import App
from rich.console import Console
from rich.markup import escape

from wherry.errors import Misconfigured, Refused, Unavailable, WherryError

app = App(
    name="wherry",
    version=version("wherry"),
    help=(
        "Bulk import, export and code-graph capsules over HTTP, as durable jobs on PostgreSQL.\n\n"
        "New here? `wherry demo` shows all of it in about half a minute. `wherry up` runs the whole service on this "
        "machine, on your PostgreSQL if DATABASE_URL is set, else on an embedded one. In production, run "
        "`wherry migrate`, then any number of `wherry api` and `wherry worker` processes. Settings are read from the "
        "environment and a .env file."
    ),
    help_format="markdown",
)
# Registered by import path, so that a command loads only what it needs. `wherry up --help` shows the docstring of `up`
# instead of this summary.
for command, purpose in {
    "demo": "Import, export and build a capsule in a temporary directory, and check the results.",
    "up": "Run the database, the API and the workers on this machine.",
    "migrate": "Apply missing migrations to the database.",
    "api": "Serve the HTTP API.",
    "worker": "Run imports, exports and capsules from the queue.",
    "tables": "Show, check and declare the tables of your own database.",
    "users": "Manage accounts, directly in the database.",
}.items():
    listed = None if sys.argv[1:2] == [command] else purpose
    app.command(f"wherry.cli.{command}:{command}", name=command, help=listed)


def main() -> None:
    """Entry point of the `wherry` command."""
    try:
        app()
    except WherryError as error:
        from wherry.cli.users_terminal import printable  # not above, where it would slow the start of every command

        reason = "\n".join(map(printable, _reason(error).split("\n")))
        Console(stderr=True).print(f"[bold red]wherry:[/] {escape(reason)}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _reason(error: WherryError) -> str:
    return error.detail if isinstance(error, (Refused, Unavailable)) else str(error)
