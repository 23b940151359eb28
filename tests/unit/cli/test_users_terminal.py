"""The list of accounts in the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from wherry.accounts.administration import ListedAccount
from wherry.accounts.models import Account
from wherry.cli.users_terminal import print_json, print_table

NAME = "\x1b[2J\r\nmallory[bold]"
LISTED = ListedAccount(
    Account(7, f"{'m' * 200}@example.com", NAME, "user", True, None, None), False, datetime(2030, 1, 31, tzinfo=UTC)
)


def test_the_table_replaces_control_characters_and_cuts_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([LISTED])
    header, line = capsys.readouterr().out.splitlines()

    assert header.startswith("id")
    assert line.split() == [
        "7",
        LISTED.account.email,
        "\ufffd[2J\ufffd\ufffdmallory[bold]",
        *("user", "no", "yes", "no"),
        "2030-01-31T00:00:00.000Z",
    ]


def test_json_output_has_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([LISTED, LISTED])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["username"] == NAME
