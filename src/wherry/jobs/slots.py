"""Which jobs a worker may fetch now, so that neither one owner, nor slow jobs, nor other tasks occupy all of it."""

from __future__ import annotations

from collections.abc import Collection

from procrastinate.jobs import Job as QueueJob

from wherry.jobs.states import Kind

WEBHOOKS = "webhook"
MAINTENANCE = "maintenance"
SIDE_LIMITS = {WEBHOOKS: 3, MAINTENANCE: 1}
"""How many tasks of the queues without jobs run at a time, beside the jobs: a webhook may take 10 s to fail."""

SIDE_SLOTS = sum(SIDE_LIMITS.values())


class Slots:
    """The slots of a worker: `jobs` for jobs, and `SIDE_SLOTS` for other tasks.

    Slow jobs get at most half of those for jobs, unless the worker has one slot or only slow queues. The last one is
    for an owner for whom the worker runs no other job: such a job starts at once, however many jobs others have queued.

    Args:
        jobs: how many jobs the worker runs at a time.
        queues: the worker's queues.
        slow: the queues of slow jobs.
    """

    def __init__(self, jobs: int, queues: Collection[str], slow: Collection[str] = ()) -> None:
        self._jobs = jobs
        self._queues = frozenset(queues)
        self._limits = [({*Kind}, jobs), *(({queue}, limit) for queue, limit in SIDE_LIMITS.items())]
        if not self._queues.intersection(Kind) <= set(slow):
            self._limits.append((set(slow), max(1, jobs // 2)))
        self._in_hand: dict[tuple[int | None, int], tuple[str, int | None]] = {}

    def open_queues(self) -> list[str]:
        """The queues that the worker may fetch from now."""
        in_hand = [queue for queue, _ in self._in_hand.values()]
        full = [queues for queues, limit in self._limits if sum(queue in queues for queue in in_hand) >= limit]
        return sorted(self._queues.difference(*full))

    def full_owners(self) -> list[int]:
        """The owners that may not have another job now."""
        return self._full({*Kind}, self._jobs)

    def full_receivers(self) -> list[int]:
        """The owners for whose jobs no other webhook may be sent now: their receivers may be slow."""
        return self._full({WEBHOOKS}, SIDE_LIMITS[WEBHOOKS])

    def _full(self, queues: Collection[str], limit: int) -> list[int]:
        """Those of the rows in these queues that the worker runs, if only the last slot is free."""
        owners = [owner for queue, owner in self._in_hand.values() if queue in queues]
        return sorted({owner for owner in owners if owner is not None}) if len(owners) >= limit - 1 else []

    def take(self, job: QueueJob, owner_id: int | None) -> None:
        """Record that a row was fetched. `owner_id` is that of its job, or of the webhook's job, or None."""
        self._in_hand[job.id, job.attempts] = job.queue, owner_id

    def free(self, job: QueueJob) -> None:
        """Record that the run of a row has ended."""
        self._in_hand.pop((job.id, job.attempts), None)
