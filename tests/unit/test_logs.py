"""What is logged helps, and gives nothing away."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
def test_a_traceback_shows_where_and_why_but_no_variables(pretty: str) -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, env={"LOG_PRETTY": pretty}, capture_output=True, text=True, check=True)
    assert "request failed" in ended.stderr
    assert "the check failed" in ended.stderr
    assert "in check" in ended.stderr
    assert "hornblower" not in ended.stderr
