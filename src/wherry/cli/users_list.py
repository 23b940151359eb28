"""Prints the list of accounts as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wherry.accounts.administration import ListedAccount
from wherry.times import rfc3339

COLUMNS = ("id", "e-mail", "username", "role", "operator", "active", "password", "created")


def print_table(found: Iterable[ListedAccount]) -> None:
    """One account per line; lines may be longer than the terminal is wide, so that nothing is cut off."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for listed in found:
        account = listed.account
        flags = (account.operator, account.active, listed.has_password)
        cells = (str(account.id), account.email, account.username, account.role, *map(_yes, flags))
        table.add_row(*(Text(printable(cell)) for cell in (*cells, rfc3339(listed.created_at))))
    console = Console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def print_json(found: Iterable[ListedAccount]) -> None:
    """One JSON object per line."""
    for listed in found:
        account = listed.account
        entry = {
            "id": account.id,
            "email": account.email,
            "username": account.username,
            "role": account.role,
            "operator": account.operator,
            "active": account.active,
            "hasPassword": listed.has_password,
            "createdAt": rfc3339(listed.created_at),
        }
        sys.stdout.write(json.dumps(entry) + "\n")


def printable(text: str) -> str:
    """Text chosen by users, with control characters replaced, as they could control the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
