"""If a setting is unusable, every command names it in one line and does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import wherry
from tests.processes import SECRET, bare_environment
from wherry.database.migrations import missing_steps

NOWHERE = "postgresql://postgres@127.0.0.1:9/nowhere"
API = ("api", "--port", "0")
UP = ("up", "--port", "0")

BUCKET = "EXPORT_STORAGE_PATH must be a directory that can be created, or the URL of a bucket"


def _environment(**settings: str) -> dict[str, str]:
    return {**bare_environment(), "JWT_SECRET": SECRET, "DATABASE_URL": NOWHERE, **settings}


def _refused(folder: Path, command: tuple[str, ...], **settings: str) -> str:
    """What a command writes to standard error before it exits with status 2."""
    return _error_of(wherry(folder, _environment(**settings), *command))


def _error_of(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.parametrize("command", [API, UP], ids=["api", "up"])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EXPORT_STORAGE_PATH", "ftp://x/y", BUCKET),
        ("MEMVID_EXPORT_API_KEY_FILE", "/nope", "MEMVID_EXPORT_API_KEY_FILE must name a readable text file"),
        ("MEMVID_EXPORT_API_KEY_FILE", os.devnull, "MEMVID_EXPORT_API_KEY_FILE must name a file with the value"),
        ("SMTP_URL", "nonsense", "SMTP_URL must be a URL such as smtp://"),
    ],
)
def test_an_unusable_setting_keeps_the_api_from_starting(
    tmp_path: Path, command: tuple[str, ...], name: str, value: str, said: str
) -> None:
    lines = _refused(tmp_path, command, **{name: value}).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"wherry: {said}")


@pytest.mark.parametrize("module", [["wherry"], ["procrastinate", "--app=wherry.worker.app"]], ids=" ".join)
def test_an_unusable_storage_path_keeps_a_worker_from_starting(tmp_path: Path, module: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *module, "worker"],
        cwd=tmp_path,
        env=_environment(EXPORT_STORAGE_PATH="memory://"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = _error_of(ended).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"wherry: {BUCKET}")


@pytest.mark.parametrize("name", ["HOST", "MEMVID_EXPORT_BIND_ADDR"])
def test_the_error_for_an_invalid_address_names_its_setting(tmp_path: Path, name: str) -> None:
    value = "[nowhere]" if name == "HOST" else "nohost.invalid:80"
    said = _refused(tmp_path, API, **{name: value})
    assert said.startswith(f"wherry: {name} must be an address of this machine, not ")


def test_the_supervisor_does_not_restart_a_process_that_refuses_its_settings(tmp_path: Path, database_url: str) -> None:
    said = _refused(tmp_path, UP, DATABASE_URL=database_url, MEMVID_EXPORT_BIND_ADDR="nohost.invalid:80")
    assert said.count("MEMVID_EXPORT_BIND_ADDR must be an address of this machine") == 1
    assert "`wherry api` cannot start with these settings" in said


@pytest.mark.parametrize("command", ["migrate", "worker"])
def test_an_unreachable_database_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    url = "postgresql://postgres:hornblower@127.0.0.1:9/nowhere"
    ended = wherry(tmp_path, {**bare_environment(), "DATABASE_URL": url}, command)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "the database of DATABASE_URL cannot be reached" in ended.stderr
    assert "hornblower" not in ended.stderr


def test_a_worker_does_not_start_without_its_schema(tmp_path: Path, empty_database_url: str) -> None:
    ended = wherry(tmp_path, {**os.environ, "DATABASE_URL": empty_database_url}, "worker")
    assert ended.returncode == 1
    assert f"{len(missing_steps({}))} migrations are missing; run: wherry migrate" in ended.stderr


def test_help_says_what_each_command_does(tmp_path: Path) -> None:
    shown = wherry(tmp_path, os.environ, "--help").stdout
    for command in ("up", "api", "worker", "migrate", "demo"):
        line = next(line for line in shown.splitlines() if line.startswith(f"│ {command} "))
        assert len(line.split()) > 4


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("", 0o600, "is empty: restore it from a backup, or delete it"),
        ('{"JWT_SECRET": "half', 0o600, "is damaged: restore it from a backup, or delete it"),
        ("[]", 0o600, "is damaged"),
        ('{"JWT_SECRET": 5}', 0o600, "is damaged"),
        ('{"JWT_SECRET": ""}', 0o600, "is damaged"),
        ("\udcff", 0o600, "is damaged"),
        ("{}", 0o644, "can be read by other accounts: run `chmod 600 "),
        ("{}", 0o620, "can be read by other accounts"),
    ],
)
def test_unusable_generated_secrets_are_never_replaced(open_folder: Path, content: str, mode: int, said: str) -> None:
    file = open_folder / ".wherry" / "secrets.json"
    file.parent.mkdir()
    file.write_text(content, errors="surrogateescape")
    file.chmod(mode)
    before = file.read_bytes()
    lines = _refused(open_folder, UP, JWT_SECRET="").splitlines()

    assert len(lines) == 1
    assert lines[0].startswith(f"wherry: {file} {said}")
    assert file.read_bytes() == before


def test_the_error_names_a_data_directory_that_is_not_writable(tmp_path: Path) -> None:
    elsewhere = dict.fromkeys(("IMPORT_STORAGE_PATH", "EXPORT_STORAGE_PATH", "MEMVID_EXPORT_ROOT"), str(tmp_path))
    lines = _refused(tmp_path, UP, WHERRY_DATA_DIR="/proc", **elsewhere).splitlines()

    assert len(lines) == 1
    assert "WHERRY_DATA_DIR must be a directory that this account may write to" in lines[0]
