"""Arrays that are crafted to be slow to split."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from wherry.errors import JobFailed
from wherry.imports.models import Place
from wherry.imports.readers.arrays import ArraySplitter
from wherry.settings import Settings

pytestmark = pytest.mark.security

MAX_RECORD_BYTES = int(Settings.model_fields["import_max_record_bytes"].default)
CHUNK = 1 << 20
ELEMENT_BYTES = 40_000_000

PARTS = {
    "strings": b'"",',
    "escapes": b'"\\\\\\"",',
    "arrays": b"[],",
    "objects": b"{},",
    "nested arrays": b"[[]],",
    "deeper arrays": b"[[[[]]]],",
    "members": b'{"":[]},',
    "opening brackets": b"[[[[[0,",
    "alternating brackets": b"[{[{[{",
}


def seconds(text: bytes) -> float:
    splitter = ArraySplitter(Place(), MAX_RECORD_BYTES)
    start = time.process_time()
    with suppress(JobFailed):
        for at in range(0, len(text), CHUNK):
            for _ in splitter.feed(text[at : at + CHUNK]):
                pass
    return time.process_time() - start


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_an_element_of_many_small_parts_is_refused_early(part: bytes) -> None:
    text = b"[[" + part * (ELEMENT_BYTES // len(part))
    assert seconds(text) < 6
