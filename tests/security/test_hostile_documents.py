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
from wherry.errors import BrokenJson, JobFailed
from wherry.imports.models import Place, RecordError
from wherry.imports.readers.nested import NestedSplitter
from wherry.imports.readers.records import JsonParser

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

def raws(splitter, text):
    for piece in text:
        yield from splitter.feed(piece)
    yield from splitter.finish()

def records(path, text):
    parser = JsonParser(stops_at_broken_syntax=True)
    count = size = 0
    try:
        for raw in raws(NestedSplitter(path, Place(), 16 << 20), text):
            fields = parser.fields(raw.index, raw.data)
            if isinstance(fields, RecordError) and fields.code.name != "INVALID_RECORD_STRUCTURE":
                print(fields.code.name, fields.message)
            count, size = count + 1, size + raw.size
        print(count, "records,", size, "bytes")
    except JobFailed as failure:
        print(failure.code, failure)
    except BrokenJson as broken:
        print("BROKEN", broken)
"""


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=120)


def guarded(text: str, path: str = "data") -> str:
    """The result of reading a document of these parts, each repeated so many times."""
    done = child(f"records({path!r}, pieces({text}))")
    assert done.returncode == 0, done.stderr
    return done.stdout


LONG_INTEGER = "(b'{\"other\":[', 1), (b'1', 4301), (b'],\"data\":[', 1), (b'1', 4301), (b']}', 1)"
DEEP = "(b'{\"other\":[', 1), (b'{\"a\":', 40_000)"
DEEP_RECORD = "(b'{\"data\":[', 1), (b'{\"a\":', 40_000), (b'0', 1), (b'}', 40_000), (b']}', 1)"
DEEP_PATH = "(b'[', 40_000)"
LONG_STRING = r"(b'{\"other\":\"', 1), (b'\\n', 8_000_000), (b'\",\"data\":[\"', 1), (b'\\n', 8_000_000), (b'\"]}', 1)"
ENDLESS_STRING = r"(b'{\"other\":\"', 1), (b'\\n', 100_000_000)"
MANY_VALUES = "(b'{\"data\":[[[]', 1), (b',[]', 5_000_000), (b']]}', 1)"
TOO_MANY_VALUES = "(b'{\"data\":[[[]', 1), (b',[]', 50_000_000)"


def test_a_long_integer_crashes_the_parser_but_not_the_import() -> None:
    crashed = child(f"events(pieces({LONG_INTEGER}))")
    assert crashed.returncode < 0 or "SystemError" in crashed.stderr
    assert guarded(LONG_INTEGER).startswith("PARSE_ERROR The file has more than 4000 digits")
    assert guarded(LONG_INTEGER.replace("4301", "4000", 1)) == "1 records, 4301 bytes\n"


def test_deep_nesting_takes_the_memory_of_paths_but_not_of_the_import() -> None:
    """ijson keeps a path to every level, except if only events without paths are requested."""
    assert "MemoryError" in child(f"items(pieces({DEEP}), 'other.item.b')").stderr
    for text in (DEEP, DEEP_PATH):
        assert guarded(text).startswith("PARSE_ERROR The file is nested more than 200 levels deep")
    assert guarded(DEEP_RECORD).startswith("PARSE_ERROR Record is nested too deeply\n1 records")


def test_a_long_string_takes_quadratic_time_but_not_in_an_import() -> None:
    assert child(f"events(pieces({LONG_STRING}))").returncode < 0
    assert guarded(LONG_STRING) == "1 records, 16000002 bytes\n"


@pytest.mark.parametrize("text", [ENDLESS_STRING, TOO_MANY_VALUES, "(b' ', 200_000_000)", "(b'x', 200_000_000)"])
def test_an_endless_value_is_refused(text: str) -> None:
    assert guarded(text).startswith(("FIELD_TOO_LONG", "PARSE_ERROR"))


ENDLESS_RECORDS = {
    "string": r"(b'\"', 1), (b'\\n', 100_000_000)",
    "literal": "(b'x', 100_000_000)",
    "brackets": "(b'[', 100_000_000)",
    "members": "(b'{', 1), (b'\"a\":{},', 20_000_000)",
}


@pytest.mark.parametrize("record", ENDLESS_RECORDS.values(), ids=ENDLESS_RECORDS.keys())
@pytest.mark.parametrize(("path", "lead"), [("data", '{"data":[{},'), ("a.data", '{"a":[{"data":{}},{"data":{"b":')])
def test_an_endless_record_is_refused(path: str, lead: str, record: str) -> None:
    outcome = guarded(f"({lead.encode()!r}, 1), {record}", path)
    assert outcome.startswith("FIELD_TOO_LONG Record 1 is longer than 16777216 bytes")


def test_a_record_of_many_values_takes_little_more_memory_than_its_text() -> None:
    assert "MemoryError" in child(f"items(pieces({MANY_VALUES}), 'data.item')").stderr
    assert guarded(MANY_VALUES) == "1 records, 15000004 bytes\n"


MANY = {
    "small arrays": ("data", "(b'[', 1), (b'{\"data\":[{}]},', 100_000), (b'0]', 1)", "100000 records, 200000 bytes"),
    "repeated members": ("data", "(b'{', 1), (b'\"data\":[{}],', 100_000), (b'\"b\":0}', 1)", "100000 records, 200000"),
    "small records": ("data", "(b'[', 1), (b'{\"data\":{}},', 200_000), (b'0]', 1)", "200000 records, 400000 bytes"),
    "scalars": ("data", "(b'[', 1), (b'{\"data\":1},', 200_000), (b'0]', 1)", "200000 records, 200000 bytes"),
    "surrogates": ("data", r"(b'[', 1), (b'{\"data\":{\"\\ud800\":1}},', 50_000), (b'0]', 1)", "ENCODING_ERROR"),
    "empty arrays": ("data", "(b'{\"data\":[', 1), (b'[],', 400_000), (b'0]}', 1)", "400001 records, 800001 bytes"),
    "other arrays": ("data", "(b'{\"a\":[', 1), (b'[],', 5_000_000), (b'0],\"data\":[0]}', 1)", "1 records, 1 bytes"),
    "other members": ("b.a", "(b'{', 1), (b'\"a\":[0],', 500_000), (b'\"b\":{\"a\":[0]}}', 1)", "1 records, 1 bytes"),
    "keys in a string": (
        "a",
        r"(b'{\"b\":\"', 1), (b'a\\\\\\\":[', 2_000_000), (b'\",\"a\":[0]}', 1)",
        "1 records, 1 bytes",
    ),
    "values": (
        "a",
        "(b'{\"b\":[\"', 1), (b'x,', 4_000_000), (b'\"', 1), (b',[]', 2_000_000), (b']}', 1)",
        "PARSE_ERROR",
    ),
    "escapes": ("a", r"(b'{\"b\":\"', 1), (b'\\\\\\n', 4_000_000), (b'\",\"a\":[0]}', 1)", "1 records, 1 bytes"),
    "paths": (
        "a.a",
        "(b'[', 1), (b'[[[[[[{\"a\":{\"a\":[{}]}}]]]]]],', 100_000), (b'0]', 1)",
        "100000 records, 200000",
    ),
}


@pytest.mark.parametrize(("path", "text", "outcome"), MANY.values(), ids=MANY.keys())
def test_a_document_of_many_parts_is_read_in_little_time_and_memory(path: str, text: str, outcome: str) -> None:
    assert guarded(text, path).startswith(outcome)
