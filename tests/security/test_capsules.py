"""Graphs that are made to hurt."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.capsules.check import check_file
from wherry.capsules.transform import transform
from wherry.errors import JobFailed, TooLarge

pytestmark = pytest.mark.security

HEAD = b'{"sessionId":"s","projectName":"p","source":{"type":"folder","baseName":"b"},"nodes":[{"id":"a","label":"F",'
TAIL = b'}],"relationships":[{"id":"r","sourceId":"a","targetId":"a","type":"C"}]}'


async def test_a_body_that_takes_thirty_times_its_size_is_refused_before_it_does(tmp_path: Path) -> None:
    body = HEAD + b'"properties":{"x":[' + b"[]," * 30_000_000 + b"[]]}" + TAIL
    file = tmp_path / "request.json"
    file.write_bytes(body)
    with pytest.raises(TooLarge, match="far more memory"):
        await check_file(file, len(body))
    with pytest.raises(JobFailed, match="far more memory"):
        await transform(file, tmp_path / "frames")
