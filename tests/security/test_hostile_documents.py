"""Documents that crash ijson, or are crafted to be slow or large, with and without the guards.

Each is parsed in a child process with limited memory and CPU time.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.security

MEMORY_BYTES = 400 << 20
CPU_SECONDS = 10

PREAMBLE = f"""
import resource
import ijson
from ijson.backends import yajl2_c
from wherry.errors import JobFailed
from wherry.imports.models import Place
from wherry.imports.readers.nested import NestedSplitter

resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS}))

PIECE = 1 << 16

def pieces(*parts):
    for part, times in parts:
        piece = part * max(1, PIECE // len(part))
        while times > 0:
            yield piece[: times * len(part)]
            times -= len(piece) // len(part)

def events(text):
    found = ijson.sendable_list()
    parser = yajl2_c.basic_parse_coro(found)
    for piece in text:
        parser.send(piece)
        found.clear()

def items(text, prefix):
    found = ijson.sendable_list()
    parser = yajl2_c.items_coro(found, prefix)
    for piece in text:
        parser.send(piece)

def records(text):
    splitter = NestedSplitter("data", Place(), 16 << 20)
    try:
        sizes = [raw.size for piece in text for raw in splitter.feed(piece)]
        print(sizes + [raw.size for raw in splitter.finish()])
    except JobFailed as failure:
        print(failure.code, failure)
"""


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=120)


def guarded(text: str) -> str:
    """The result of reading a document of these parts, each repeated so many times."""
    done = child(f"records(pieces({text}))")
    assert done.returncode == 0, done.stderr
    return done.stdout


LONG_INTEGER = "(b'{\"data\":[', 1), (b'1', 4301), (b']}', 1)"
DEEP = "(b'{\"data\":[', 1), (b'{\"a\":', 40_000)"
LONG_STRING = r"(b'{\"data\":[\"', 1), (b'\\n', 8_000_000), (b'\"]}', 1)"
ENDLESS_STRING = r"(b'{\"other\":\"', 1), (b'\\n', 100_000_000)"
MANY_VALUES = "(b'{\"data\":[[[]', 1), (b',[]', 5_000_000), (b']]}', 1)"
TOO_MANY_VALUES = "(b'{\"data\":[[[]', 1), (b',[]', 50_000_000)"


def test_a_long_integer_crashes_the_parser_but_not_the_import() -> None:
    crashed = child(f"events(pieces({LONG_INTEGER}))")
    assert crashed.returncode < 0 or "SystemError" in crashed.stderr
    assert guarded(LONG_INTEGER).startswith("PARSE_ERROR The file has more than 4000 digits")


def test_deep_nesting_takes_the_memory_of_paths_but_not_of_the_import() -> None:
    """ijson keeps a path to every level, except if only events without paths are requested."""
    assert "MemoryError" in child(f"items(pieces({DEEP}), 'data.item.b')").stderr
    assert guarded(DEEP).startswith("PARSE_ERROR The file is nested more than 200 levels deep")


def test_a_long_string_takes_quadratic_time_but_not_in_an_import() -> None:
    assert child(f"events(pieces({LONG_STRING}))").returncode < 0
    assert guarded(LONG_STRING) == "[16000002]\n"


@pytest.mark.parametrize("text", [ENDLESS_STRING, TOO_MANY_VALUES, "(b' ', 200_000_000)", "(b'x', 200_000_000)"])
def test_an_endless_value_is_refused(text: str) -> None:
    assert guarded(text).startswith(("FIELD_TOO_LONG", "PARSE_ERROR"))


def test_a_record_of_many_values_takes_little_more_memory_than_its_text() -> None:
    assert "MemoryError" in child(f"items(pieces({MANY_VALUES}), 'data.item')").stderr
    assert guarded(MANY_VALUES) == "[15000004]\n"
