"""The command line: `wherry up`, `api`, `worker`, `migrate`, `demo`, `users`.

In: arguments and the environment. Out: an exit status; 2 where the arguments or a setting cannot be read.
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
        "New here? `wherry demo` shows the whole job in about a minute. `wherry up` serves it on this machine: with "
        "DATABASE_URL on your server, without it on an embedded one. In production run `wherry migrate`, then any "
        "number of `wherry api` and `wherry worker` processes. Settings come from the environment and a .env file."
    ),
    help_format="markdown",
)
# By their paths, so that a command loads only what it needs; its own help then says more than its line in the list.
for command, purpose in {
    "demo": "Show the whole job on real input, in a temporary directory.",
    "up": "Serve everything on this machine with one command.",
    "migrate": "Bring the database to this version's schema.",
    "api": "Serve the HTTP API.",
    "worker": "Run jobs from the queue.",
    "users": "Manage accounts, directly in the database.",
}.items():
    listed = None if sys.argv[1:2] == [command] else purpose
    app.command(f"wherry.cli.{command}:{command}", name=command, help=listed)


def main() -> None:
    """Entry point of the `wherry` command."""
    try:
        app()
    except WherryError as error:
        Console(stderr=True).print(f"[bold red]wherry:[/] {escape(_reason(error))}", highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _reason(error: WherryError) -> str:
    return error.detail if isinstance(error, (Refused, Unavailable)) else str(error)
