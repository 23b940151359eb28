from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from wherry.exports.artifact import AHEAD, produced_ahead


class Source:
    """A blocking generator of numbers that a test can observe and pause."""

    def __init__(self, count: int, hold_at: int | None = None) -> None:
        self.count = count
        self.hold_at = hold_at
        self.made = 0
        self.threads: set[int] = set()
        self.held = threading.Event()
        self.released = threading.Event()
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(1, self.count + 1):
                self.threads.add(threading.get_ident())
                if number == self.hold_at:
                    self.held.set()
                    self.released.wait(30)
                self.made = number
                yield number
        finally:
            self.threads.add(threading.get_ident())
            self.closed = True


def test_items_are_produced_in_order_by_one_separate_thread() -> None:
    source = Source(100)
    assert list(produced_ahead(source.items())) == list(range(1, 101))
    assert source.closed
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_only_a_few_items_are_produced_ahead() -> None:
    source = Source(100, hold_at=AHEAD + 1)
    items = produced_ahead(source.items())
    assert next(items) == 1
    assert next(items) == 2  # which asks for one more than what may wait
    assert source.held.wait(10)
    assert source.made == AHEAD
    source.released.set()
    items.close()
    assert source.made <= AHEAD + 2
    assert source.closed


def test_an_exception_is_raised_after_the_items_before_it() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise LookupError("broken")

    items = produced_ahead(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError, match="broken"):
        next(items)
