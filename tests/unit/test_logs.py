"""Logs help to find an error, and contain no secrets."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherry

PROGRAM = """
import structlog
from wherry.logs import configure_logs
from wherry.settings import load_settings

def check(password):
    raise ValueError("the check failed")

configure_logs(load_settings(_env_file=None))
try:
    check("".join(["hor", "nbl", "ower"]))
except ValueError:
    structlog.get_logger("test").exception("request failed")
"""


@pytest.mark.parametrize("pretty", ["false", "true"])
def test_a_traceback_shows_no_variables(pretty: str) -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, env={"LOG_PRETTY": pretty}, capture_output=True, text=True, check=True)
    assert "request failed" in ended.stderr
    assert "the check failed" in ended.stderr
    assert "in check" in ended.stderr
    assert "hornblower" not in ended.stderr


def _fields_of_log_calls() -> Iterator[tuple[str, str]]:
    """Yields (file, field) for every field of our log calls; `exc_info` is structlog's own."""
    for file in Path(wherry.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _is_log_call(node.func):
                yield from ((file.name, word.arg) for word in node.keywords if word.arg and word.arg != "exc_info")


def _is_log_call(called: ast.expr) -> bool:
    methods = {"debug", "info", "warning", "error", "exception", "bind", "bound_contextvars"}
    return isinstance(called, ast.Attribute) and called.attr in methods


def test_log_fields_are_camel_case_and_a_job_is_always_jobId() -> None:
    fields = set(_fields_of_log_calls())
    assert ("rescue.py", "jobId") in fields
    assert not [(file, name) for file, name in fields if "_" in name or name in ("job", "jobID")]
