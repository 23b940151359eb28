"""The state machine of jobs."""

from __future__ import annotations

from wherry.jobs.models import new_job_id
from wherry.jobs.states import FINISHED, MOVES, UNFINISHED, Status, sources


def test_an_ended_job_never_moves_again() -> None:
    assert frozenset({Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.CANCELLED}) == FINISHED
    assert all(not MOVES[status] for status in FINISHED)


def test_only_queued_and_running_jobs_can_be_claimed() -> None:
    assert sources(Status.RUNNING) == ["queued", "running"]
    assert {Status.QUEUED, Status.RUNNING} == UNFINISHED


def test_job_ids_are_version_7_and_sort_by_age() -> None:
    first, second = new_job_id(), new_job_id()
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert first.int >> 80 <= second.int >> 80
    assert first != second
