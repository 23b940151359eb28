"""Suggests where in a JSON document its records may be: the paths to the arrays of objects in its beginning."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain

from wherry.errors import BrokenJson, JobFailed
from wherry.imports.readers.json_events import CLOSING, OPENING, Event, JsonEvents, require_depth

HEAD_BYTES = 1 << 20
"""How much of a document is searched."""

MAX_SUGGESTIONS = 10
MAX_PATH = 200
"""In characters; longer paths are not suggested."""


def suggestion(head: bytes) -> str:
    """A sentence about the arrays of objects in the first part of a document."""
    paths = array_paths(head)
    if "" in paths:
        return "The file itself is an array of objects, which is read without recordsAt."
    if not paths:
        return "There is no array of objects in its first megabyte."
    return f"Arrays of objects in its first megabyte: {', '.join(paths)}."


def array_paths(head: bytes) -> list[str]:
    """The paths to arrays of objects, in the order of the arrays; an empty one is that of the document itself.

    The text need not be complete.
    """
    document, arrays = JsonEvents(HEAD_BYTES), _Arrays()
    document.unread += head
    with suppress(BrokenJson, JobFailed):
        for events in chain(document.read(), document.finish()):
            for event in events:
                arrays.see(event)
    return list(arrays.paths)[:MAX_SUGGESTIONS]


class _Arrays:
    """The paths to the arrays of objects so far. They cannot have keys that contain dots."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}
        self._here: str | None = ""  # the path to the next value, or None if it cannot be named
        self._open: list[tuple[str | None, bool]] = []  # the paths to what is open, and whether it is an array

    def see(self, event: Event) -> None:
        """Take note of one event."""
        name, value = event
        if name == "map_key":
            self._here = _joined(self._open[-1][0], value)
        elif name in OPENING:
            in_array = bool(self._open) and self._open[-1][1]
            if name == "start_map" and in_array and self._here is not None:
                self.paths[self._here] = None
            self._open.append((self._here, name == "start_array"))
            require_depth(len(self._open))
        elif name in CLOSING:
            self._open.pop()
            self._here = self._open[-1][0] if self._open else None


def _joined(path: str | None, key: str) -> str | None:
    if path is None or not key or not key.isprintable() or "." in key or len(path) + len(key) >= MAX_PATH:
        return None
    return f"{path}.{key}" if path else key
