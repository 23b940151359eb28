"""Text from clients in the readable log cannot control a terminal or forge lines."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.security

PROGRAM = """
import logging, structlog
from wherry.logs import configure_logs
from wherry.settings import load_settings

configure_logs(load_settings(_env_file=None))
text = {text!r}
log = structlog.get_logger("test")
log.info("one", path=text, nested=dict(value=text))
log.info(text)
logging.getLogger("uvicorn.error").warning("said %s", text)
try:
    raise ValueError(text)
except ValueError:
    log.exception("two", path=text)
"""
HOSTILE = {
    "a terminal's escapes": "\x1b]0;owned\x07\x1b[2J",
    "escapes of one byte": "\x9b2J\x85",
    "a line": "/x\r2026-01-01T00:00:00Z [info     ] job.completed",
    "separators": "a\u2028b\u2029c",
    "right to left": "\u202egnp.exe",
    "a backspace": "secret\x08\x08\x08",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_unprintable_characters_are_escaped(text: str) -> None:
    command = [sys.executable, "-X", "utf8", "-c", PROGRAM.replace("{text!r}", ascii(text))]
    environment = {"LOG_PRETTY": "true", "PYTHONIOENCODING": "utf-8"}
    said = subprocess.run(command, env=environment, capture_output=True, check=True).stderr.decode()
    assert "two" in said
    assert [each for each in said if not each.isprintable() and each != "\n"] == []


def test_a_value_with_newlines_stays_on_one_line() -> None:
    command = [sys.executable, "-X", "utf8", "-c", PROGRAM.replace("{text!r}", ascii("/x\nforged line\n"))]
    said = subprocess.run(command, env={"LOG_PRETTY": "true"}, capture_output=True, check=True).stderr.decode()
    before_the_traceback = said[: said.index("Traceback")]
    assert "forged line" in before_the_traceback
    assert not any(line.startswith("forged line") for line in before_the_traceback.splitlines())
