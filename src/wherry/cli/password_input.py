"""Reads passwords from a prompt or from standard input, never from an argument, which other users could see."""

from __future__ import annotations

import sys
from getpass import getpass

from wherry.errors import Invalid, Misconfigured


def read_password(*, from_stdin: bool) -> str:
    """Prompt for the password twice, or read the first line of standard input.

    Raises:
        Misconfigured: there is no terminal to prompt at.
        Invalid: the passwords differ, or the line is not UTF-8.
    """
    if from_stdin:
        return _first_line()
    if not sys.stdin.isatty():
        raise Misconfigured("there is no terminal to ask for the password on: use --password-stdin")
    password = getpass("New password: ")
    if getpass("Repeat the password: ") != password:
        raise Invalid("the passwords differ; nothing was changed")
    return password


def _first_line() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Invalid("the password on standard input must be UTF-8") from error
