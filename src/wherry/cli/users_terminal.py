"""What `wherry users` reads from and prints to the terminal: passwords, and the list of accounts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from getpass import getpass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wherry.accounts.administration import ListedAccount
from wherry.errors import Invalid, Misconfigured
from wherry.times import rfc3339

COLUMNS = ("id", "e-mail", "username", "role", "operator", "active", "password", "created")


def read_password(*, from_stdin: bool) -> str:
    """Prompt for the password twice, or read the first line of standard input.

    A password is never an argument, which other users of this machine could see.

    Raises:
        Misconfigured: there is no terminal to prompt at.
        Invalid: the passwords differ, or the line is not UTF-8.
    """
    if from_stdin:
        try:
            return sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise Invalid("the password on standard input must be UTF-8") from error
    if not sys.stdin.isatty():
        raise Misconfigured("there is no terminal to prompt for the password: use --password-stdin")
    password = getpass("New password: ")
    if getpass("Repeat the password: ") != password:
        raise Invalid("the passwords differ; nothing was changed")
    return password


def print_table(found: Iterable[ListedAccount]) -> None:
    """Print one account per line. Nothing is cut off, even if the lines are wider than the terminal."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for listed in found:
        account = listed.account
        flags = ("yes" if flag else "no" for flag in (account.operator, account.active, listed.has_password))
        cells = (str(account.id), account.email, account.username, account.role, *flags)
        table.add_row(*(Text(printable(cell)) for cell in (*cells, rfc3339(listed.created_at))))
    console = Console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def print_json(found: Iterable[ListedAccount]) -> None:
    """Print one JSON object per account and line."""
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
    """Replace control characters in a user's text, as they could control the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
