"""Passwords as people give them to a command: at a prompt or on standard input, never as an argument."""

from __future__ import annotations

import sys
from getpass import getpass

from wherry.errors import Invalid, Misconfigured


def read_password(*, from_stdin: bool) -> str:
    """The password, asked for twice, or the first line of standard input.

    Raises:
        Misconfigured: there is no terminal to ask at.
        Invalid: the two differ, or the line is not UTF-8.
    """
    if from_stdin:
        return _first_line()
    if not sys.stdin.isatty():
        raise Misconfigured("there is no terminal to ask for the password at: pass it with --password-stdin")
    password = getpass("New password: ")
    if getpass("The same again: ") != password:
        raise Invalid("the two passwords differ; nothing was changed")
    return password


def _first_line() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Invalid("the password on standard input must be UTF-8") from error
