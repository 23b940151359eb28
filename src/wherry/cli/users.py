"""`wherry users`: manages accounts directly in the database, for example if an admin forgot the password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from rich.console import Console

from wherry.accounts.administration import Administration, Standing
from wherry.accounts.models import Account, Link, Registration
from wherry.accounts.passwords import Passwords
from wherry.cli.users_terminal import print_json, print_table, printable, read_password
from wherry.database.pools import make_pool
from wherry.local.data_directory import database_of, service_url
from wherry.setting_values import Role
from wherry.settings import Settings, load_settings
from wherry.times import rfc3339

T = TypeVar("T")
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Who = Annotated[str, Parameter(name="ACCOUNT", help="E-mail address or id of the account.")]
PasswordFromStdin = Annotated[
    bool,
    Parameter(
        name="--password-stdin",
        negative="",
        show_default=False,
        help="Read the password from the first line of standard input.",
    ),
]

users = App(
    name="users",
    help=(
        "Manage accounts, directly in the database.\n\n"
        "Uses the database of DATABASE_URL or, if that is not set, the embedded one of `wherry up` in WHERRY_DATA_DIR "
        "(by default ./.wherry), whether or not `wherry up` is running."
    ),
    help_format="markdown",
)


@users.command(name="list")
def list_accounts(*, json: Flag = False) -> None:
    """List all accounts.

    Parameters
    ----------
    json
        Print one JSON object per line.
    """
    found = _run(lambda accounts: accounts.list_accounts())
    (print_json if json else print_table)(found)


@users.command
def create(
    *,
    email: str,
    username: str,
    role: Role = "user",
    operator: Flag = False,
    ask_password: Flag = False,
    password_stdin: PasswordFromStdin = False,
) -> None:
    """Create an account. Without a password, print a one-time link for setting one.

    Parameters
    ----------
    email
        E-mail address, used to log in.
    username
        Public name.
    role
        Role of the account.
    operator
        Make the account an operator.
    ask_password
        Prompt for the password.
    """
    password = read_password(from_stdin=password_stdin) if ask_password or password_stdin else None

    async def work(accounts: Administration) -> tuple[Account, Link | None]:
        account = await accounts.create(Registration(username, email, password), Standing(role, operator=operator))
        return account, None if password is not None else await accounts.onboarding_link(account)

    account, link = _run(work)
    _say(f"created {account.role} {account.email}, id {account.id}{', operator' if account.operator else ''}")
    if link is not None:
        _print_link(link)


@users.command
def set_role(account: Who, role: Role, /) -> None:
    """Change the role of an account.

    Parameters
    ----------
    role
        New role of the account.
    """
    changed = _run(lambda accounts: accounts.set_standing(account, Standing(role=role)))
    _say(f"{changed.email} now has the role {changed.role}")


@users.command
def set_password(account: Who, /, *, password_stdin: PasswordFromStdin = False) -> None:
    """Set an account's password, from a prompt or from standard input.

    Ends the account's logins; its API tokens stay valid.
    """
    password = read_password(from_stdin=password_stdin)
    changed = _run(lambda accounts: accounts.set_password(account, password))
    _say(f"{changed.email} now has a new password")


@users.command
def reset_link(account: Who, /) -> None:
    """Print a one-time link for setting a new password, valid for an hour."""
    _print_link(_run(lambda accounts: accounts.reset_link(account)))


@users.command
def deactivate(account: Who, /) -> None:
    """Block an account: its logins, JWTs and API tokens are refused until it is activated again."""
    changed = _run(lambda accounts: accounts.set_standing(account, Standing(active=False)))
    _say(f"{changed.email} is now deactivated")


@users.command
def activate(account: Who, /) -> None:
    """Unblock a deactivated account."""
    changed = _run(lambda accounts: accounts.set_standing(account, Standing(active=True)))
    _say(f"{changed.email} is now active")


@users.command
def operator(account: Who, /, *, revoke: Flag = False) -> None:
    """Make an account an operator. Otherwise only the first account of an empty system becomes one.

    Parameters
    ----------
    revoke
        Remove the operator flag instead.
    """
    changed = _run(lambda accounts: accounts.set_standing(account, Standing(operator=not revoke)))
    _say(f"{changed.email} is {'now' if changed.operator else 'no longer'} an operator")


def _run(work: Callable[[Administration], Awaitable[T]]) -> T:
    settings = load_settings()
    with database_of(settings) as url:
        return asyncio.run(_work_on(url, settings, work))


async def _work_on(url: str, settings: Settings, work: Callable[[Administration], Awaitable[T]]) -> T:
    async with make_pool(url, name="wherry users", max_size=1) as pool:
        return await work(Administration(pool, Passwords(), service_url(settings)))


def _print_link(link: Link) -> None:
    _say(f"This link can be used once, until {rfc3339(link.expires_at)}:")
    _say(link.url)


def _say(text: str) -> None:
    # on one line, however narrow the terminal: a wrapped link cannot be copied
    Console().print(printable(text), highlight=False, markup=False, soft_wrap=True)
