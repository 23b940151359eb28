"""Cancelling at any moment: one terminal state, and counters that equal the tables."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults import load
from tests.postgres import TestServer
from tests.processes import Service, service

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

SEED = 7
STOP_SECONDS = 2.0


def _cancel_at_random(up: Service, url: str, cancels: int, records: int) -> None:
    chance = random.Random(SEED)
    late = []
    with up.admin() as client:
        for number in range(cancels):
            job = load.submit_one(client, number, records)
            time.sleep(chance.uniform(0, 0.6))
            answer = client.delete(f"/api/v1/imports/{job.id}")
            asked = time.monotonic()
            assert answer.status_code in (200, 202, 409), answer.text
            load.wait_for_end(client, [job], 30)
            late.append(time.monotonic() - asked)
            (outcome,) = load.outcomes(client, url, [job])
            assert outcome.is_exact, outcome
            assert (outcome.job["status"] != "cancelled") == (answer.status_code == 409), outcome.job
            again = client.delete(f"/api/v1/imports/{job.id}")
            assert again.status_code == (409 if answer.status_code == 409 else 200)
            assert load.state(client, job)["status"] == outcome.job["status"], "an ended job stays as it is"
    print(f"slowest stop: {max(late):.2f} s")
    assert max(late) < STOP_SECONDS + load.POLL_SECONDS


@pytest.mark.parametrize("cancels", [15, pytest.param(200, marks=pytest.mark.long)])
def test_a_cancelled_import_ends_once_with_exact_counts(
    postgres_server: TestServer, database_url: str, tmp_path: Path, cancels: int
) -> None:
    limits = {"IMPORT_BATCH_SIZE": "500", "IMPORT_RATE_LIMIT_PER_HOUR": "1000"}
    with service(database_url, tmp_path, **limits, **load.make_shop(database_url, tmp_path)) as up:
        _cancel_at_random(up, database_url, cancels, 15_000)
