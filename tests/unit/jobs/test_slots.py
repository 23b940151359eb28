"""Which jobs a worker may fetch, given those that it has in hand."""

from __future__ import annotations

import pytest
from procrastinate.jobs import Job as QueueJob

from wherry.jobs.slots import MAINTENANCE, SIDE_LIMITS, WEBHOOKS, Slots
from wherry.jobs.states import Kind

QUEUES = {*Kind, *SIDE_LIMITS}


def _row(number: int, queue: str, *, attempts: int = 0) -> QueueJob:
    return QueueJob(
        id=number, queue=queue, attempts=attempts, lock=None, queueing_lock=None, task_name="task", task_kwargs={}
    )


def _slots(*in_hand: tuple[str, int | None], jobs: int = 4, queues: set[str] = QUEUES) -> Slots:
    slots = Slots(jobs, queues, {Kind.CAPSULE})
    for number, (queue, owner_id) in enumerate(in_hand):
        slots.take(_row(number, queue), owner_id)
    return slots


def test_an_idle_worker_fetches_everything() -> None:
    assert set(_slots().open_queues()) == QUEUES
    assert _slots().full_owners() == []


def test_a_worker_fetches_only_from_its_own_queues() -> None:
    assert _slots(queues={"import"}).open_queues() == ["import"]


def test_a_worker_without_a_free_slot_for_jobs_still_fetches_other_tasks() -> None:
    assert set(_slots(*[("import", n) for n in range(4)]).open_queues()) == {WEBHOOKS, MAINTENANCE}


@pytest.mark.parametrize("queue", SIDE_LIMITS)
def test_other_tasks_leave_the_slots_of_jobs_and_of_each_other_free(queue: str) -> None:
    full = _slots(*[(queue, None)] * SIDE_LIMITS[queue], jobs=1)
    assert set(full.open_queues()) == QUEUES - {queue}
    assert full.full_owners() == []


@pytest.mark.parametrize(("jobs", "slow"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_slow_jobs_get_at_most_half_of_the_slots(jobs: int, slow: int) -> None:
    assert "capsule" in _slots(*[("capsule", None)] * (slow - 1), jobs=jobs).open_queues()
    assert "capsule" not in _slots(*[("capsule", None)] * slow, jobs=jobs).open_queues()


def test_a_worker_for_slow_jobs_only_uses_all_of_its_slots() -> None:
    assert _slots(*[("capsule", None)] * 3, queues={"capsule"}).open_queues() == ["capsule"]


@pytest.mark.parametrize(
    ("jobs", "owners", "full"),
    [
        (4, [1, 1], []),
        (4, [1, 1, 1], [1]),
        (4, [1, 2, 2], [1, 2]),
        (4, [1, None, None], [1]),
        (2, [1], [1]),
        (1, [], []),
    ],
)
def test_the_last_slot_is_for_an_owner_without_a_job_in_hand(
    jobs: int, owners: list[int | None], full: list[int]
) -> None:
    assert _slots(*[("import", owner) for owner in owners], jobs=jobs).full_owners() == full


def test_other_tasks_do_not_count_as_jobs_of_an_owner() -> None:
    assert _slots((WEBHOOKS, None), (WEBHOOKS, None), ("import", 1)).full_owners() == []


def test_a_freed_slot_can_be_taken_again() -> None:
    slots = _slots(("import", 1), jobs=1)
    slots.free(_row(0, "import"))
    assert "import" in slots.open_queues()


def test_a_row_that_is_fetched_again_before_its_run_has_ended_keeps_its_slot() -> None:
    slots = _slots(("import", 1), jobs=2)
    slots.take(_row(0, "import", attempts=1), 1)
    slots.free(_row(0, "import"))
    assert slots.full_owners() == [1]


@pytest.mark.parametrize(("owners", "full"), [([1], []), ([1, 1], [1]), ([1, 2], [1, 2]), ([1, None], [1])])
def test_the_last_slot_for_webhooks_is_for_an_owner_whose_receivers_hold_none(
    owners: list[int | None], full: list[int]
) -> None:
    slots = _slots(*[(WEBHOOKS, owner) for owner in owners])
    assert slots.full_receivers() == full
    assert slots.full_owners() == []
