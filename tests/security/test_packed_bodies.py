"""Small bodies that decompress to large ones."""

from __future__ import annotations

import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.processes import Service, service
from tests.security.test_slow_readers import peak_megabytes

pytestmark = pytest.mark.security

UNPACKED = 600 << 20
SENDERS = 3


def bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blank = b" " * (1 << 20)
    return b"".join(packer.compress(blank) for _ in range(UNPACKED >> 20)) + packer.flush()


def test_graphs_that_decompress_to_too_much_cost_little_memory_and_delay_nobody(
    database_url: str, tmp_path: Path
) -> None:
    body = bomb()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def send(running: Service) -> httpx.Response:
        with running.capsule_client() as client:
            return client.post("/v1/exports", content=body, headers=headers, timeout=120)

    with service(database_url, tmp_path, workers=0) as running, running.client() as other:
        process = running.api()
        with ThreadPoolExecutor(SENDERS) as pool:
            sent = [pool.submit(send, running) for _ in range(SENDERS)]
            slowest = 0.0
            while not all(each.done() for each in sent):
                began = time.monotonic()
                assert other.get("/healthz", timeout=10).status_code == 200
                slowest = max(slowest, time.monotonic() - began)
            assert {each.result().status_code for each in sent} == {413}
        assert slowest < 2
        assert peak_megabytes(process.pid) < 300
    assert len(body) < 1 << 20
