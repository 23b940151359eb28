"""Rules of a resource about whole rows: what a record may do to the row that it writes, as things stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from wherry.resources.rules import Fault

State = int
"""What a policy knows of a row."""


class Policy(ABC):
    """Judges the records of one batch, one after another, and keeps count of what it has let pass.

    Args:
        by_admin: whether an admin imports.
        keepers: how many rows there are of those of which one must remain (the query `keepers`, which locks them);
            None if they have not been counted yet.
    """

    def __init__(self, *, by_admin: bool, keepers: int | None) -> None:
        self.by_admin = by_admin
        self.keepers = keepers
        self.lacks_keepers = False
        """Whether a record could not be judged, because the keepers have not been counted."""

    @abstractmethod
    def faults(self, record: Any, state: State) -> Iterator[tuple[str, Fault]]:
        """What is wrong with a record for a row that is there, by field."""

    @abstractmethod
    def after(self, record: Any, state: State | None) -> State:
        """The row's state once a record has written it; it was None if the row is new."""
