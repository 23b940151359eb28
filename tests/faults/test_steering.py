"""Retries, pauses and cancels at random moments, with kills in between.

Whatever happens: one end per round of a job, counters that equal the tables, and one webhook per end.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.faults import load
from tests.processes import Process, Service, service
from tests.receivers import WEBHOOK_SECRET, Receiver, receiving

pytestmark = [pytest.mark.fault, pytest.mark.timeout(7200)]

SEED = 13
RECORDS = 15_000
AT_ONCE = 4
END_SECONDS = 180

ENDS = """
select jobs.id::text as job,
       jobs.round,
       jobs.status,
       array_agg(job_history.round order by job_history.id) as ended,
       (array_agg(job_history.meta ->> 'status' order by job_history.id desc))[1] as last,
       array(select id from wherry.webhook_events where job_id = jobs.id order by round) as webhooks
from wherry.jobs
left join wherry.job_history on job_history.job_id = jobs.id and type = 'ended'
group by jobs.id
"""
WAITING = "select count(*) from wherry.procrastinate_jobs where status in ('todo', 'doing')"
UNDELIVERED = "select count(*) from wherry.webhook_events where status <> 'delivered'"


class Steering:
    """Does something random to random jobs, one step after the other."""

    def __init__(self, up: Service, client: httpx.Client) -> None:
        self._up = up
        self._client = client
        self._chance = random.Random(SEED)
        self._worker: Process = up.worker()
        self.jobs: list[load.Import] = []
        self.done: Counter[str] = Counter()
        """How often each action succeeded."""

    def step(self) -> None:
        """Have enough unfinished jobs, then do one thing, after a random time."""
        while self._client.get("/api/v1/jobs?status=queued").raise_for_status().json()["jobs"] == []:
            self.jobs.append(load.submit_one(self._client, len(self.jobs), RECORDS))
        time.sleep(self._chance.uniform(0, 0.6))
        actions: list[Callable[[], bool]] = [self.retry, self.retry, self.cancel, self.cancel, self.pause, self.kill]
        action = self._chance.choice(actions)
        self.done[action.__name__] += action()

    def retry(self) -> bool:
        """Retry a job that may be retried, if there is one."""
        ended = [job for job in self.jobs if load.state(self._client, job)["status"] in ("cancelled", "failed")]
        if not ended:
            return False
        answer = self._client.post(f"/api/v1/jobs/{self._chance.choice(ended).id}/retry")
        assert answer.status_code == 202, answer.text
        return True

    def cancel(self) -> bool:
        """Cancel a job of the last few, whatever its state is."""
        job = self._chance.choice(self.jobs[-AT_ONCE:])
        answer = self._client.delete(f"/api/v1/imports/{job.id}")
        assert answer.status_code in (200, 202, 409), answer.text
        return answer.status_code != 409

    def pause(self) -> bool:
        """Pause imports if they are not paused, else resume them."""
        imports = self._client.get("/api/v1/queue").raise_for_status().json()["kinds"]["import"]
        move = "resume" if imports["paused"] else "pause"
        answer = self._client.post(f"/api/v1/queue/import/{move}").raise_for_status()
        assert answer.json()["kinds"]["import"]["paused"] is (move == "pause")
        return True

    def kill(self) -> bool:
        """Kill the worker, and start another one."""
        self._worker.kill()
        self._worker.wait()
        self._worker = self._up.worker()
        return True


def _wait_until_none(url: str, query: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while (row := connection.execute(query).fetchone()) != (0,):
            assert time.monotonic() < deadline, f"{row} after {seconds} s: {query}"
            time.sleep(load.POLL_SECONDS)


def _expect_one_end_per_round(url: str, receiver: Receiver) -> None:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found = connection.execute(ENDS).fetchall()
    for job in found:
        assert job["ended"] == list(range(1, job["round"] + 1)), job
        assert job["last"] == job["status"], job
        assert len(job["webhooks"]) == job["round"], job
    ids = [id_ for job in found for id_ in job["webhooks"]]
    assert len(set(ids)) == len(ids)
    assert set(receiver.accepted) == set(ids)


def _steer(up: Service, url: str, receiver: Receiver, steps: int) -> None:
    with up.admin() as client:
        steering = Steering(up, client)
        while steering.done.total() < steps:
            steering.step()
        client.post("/api/v1/queue/import/resume").raise_for_status()
        load.wait_for_end(client, steering.jobs, END_SECONDS)
        _wait_until_none(url, WAITING, END_SECONDS)
        _wait_until_none(url, UNDELIVERED, END_SECONDS)
        _expect_one_end_per_round(url, receiver)
        for outcome in load.outcomes(client, url, steering.jobs):
            assert outcome.is_exact, outcome
            assert outcome.is_complete or outcome.job["status"] in ("cancelled", "failed"), outcome
        print(f"{len(steering.jobs)} jobs; {dict(steering.done)}; {len(receiver.accepted)} webhooks")
        assert all(steering.done[action] for action in ("retry", "cancel", "pause", "kill")), steering.done


@pytest.mark.parametrize("steps", [20, pytest.param(200, marks=pytest.mark.long)])
def test_steered_jobs_end_once_per_round_with_exact_counts(database_url: str, tmp_path: Path, steps: int) -> None:
    shop = load.make_shop(database_url, tmp_path)
    with (
        receiving() as receiver,
        service(
            database_url,
            tmp_path,
            workers=0,
            IMPORT_BATCH_SIZE="500",
            WEBHOOK_URL=receiver.url,
            WEBHOOK_SECRET=WEBHOOK_SECRET,
            WEBHOOK_RETRY_SECONDS="1,1,1,1,1,1,1,1,1,1",
            **shop,
        ) as up,
    ):
        _steer(up, database_url, receiver, steps)
