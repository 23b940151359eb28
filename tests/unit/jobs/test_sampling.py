"""Which checkpoints the history of a job shows."""

from __future__ import annotations

from itertools import count

from wherry.jobs.runs import Sampling

HOUR = 3600.0


def sampled(seconds: float) -> list[float]:
    """When checkpoints are sampled in a run of this duration that writes one every half second."""
    now = 1000.0
    sampling = Sampling(lambda: now)
    times = []
    for step in count(1):
        now = 1000.0 + step / 2
        if step / 2 > seconds:
            return times
        if sampling.is_due():
            times.append(step / 2)
    raise AssertionError


def test_a_short_run_has_no_samples() -> None:
    assert sampled(4.5) == []


def test_samples_are_five_seconds_apart_at_first() -> None:
    assert sampled(20) == [5, 10, 15, 20]


def test_a_long_run_has_few_samples() -> None:
    times = sampled(9 * HOUR)
    assert 100 < len(times) < 150
    assert times[-1] > 8 * HOUR
