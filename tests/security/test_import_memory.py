"""Records that are crafted to take far more memory than their size."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.security

MEBIBYTES = 12
DECODE = """
import resource, sys
from wherry.imports.decode import Decoder
from wherry.imports.models import RawRecord
from wherry.imports.readers.records import JsonParser
from tests.builtin_tables import USERS

many = b"[" + b"[]," * {lists} + b"[]]"
data = {record}
decoder = Decoder(USERS, JsonParser(), caller_role="admin", max_bytes=16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
entry = decoder.decode(RawRecord(0, len(data), data, len(data)))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, *(f"{{error.code.name}}:{{error.field}}:{{error.value}}" for error in entry.errors))
"""


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ("many", "INVALID_RECORD_STRUCTURE:None:['[array]']"),
        ("""b'{"email":"a@example.com","name":' + many + b'}'""", "INVALID_FIELD_TYPE:name:['[array]']"),
        ("""b'{"email":"a@example.com","name":{"x":' + many + b'}}'""", "INVALID_FIELD_TYPE:name:[object]"),
    ],
    ids=["the record", "a field", "an object"],
)
def test_millions_of_lists_in_a_record_take_little_memory(record: str, fault: str) -> None:
    program = DECODE.format(lists=(MEBIBYTES << 20) // 3, record=record)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    megabytes, _, faults = done.stdout.strip().partition(" ")
    assert faults == fault
    assert int(megabytes) < 5 * MEBIBYTES
