"""The contents of a graph's files, kept in a temporary file instead of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from typing import NamedTuple

from wherry.storage.workspaces import scratch_file

_STEP = 1 << 20
_CONTINUATION = bytes(range(0x80, 0xC0))
_LONGEST = 4  # bytes of a character


class Text(NamedTuple):
    """A text that is not empty: bytes of UTF-8 in `data`, from `start` to `end`, and its number of characters."""

    data: mmap | bytes
    start: int
    end: int
    chars: int

    def all(self) -> str:
        return self.data[self.start : self.end].decode()

    def head(self, chars: int) -> str:
        """The first characters."""
        return self.between(self.start, self.end, chars)

    def tail(self, chars: int) -> str:
        """The last characters."""
        return self.data[max(self.start, self.end - _LONGEST * chars) : self.end].decode(errors="ignore")[-chars:]

    def between(self, start: int, end: int, chars: int) -> str:
        """The text between two places, up to a number of characters."""
        return self.data[start : min(end, start + _LONGEST * chars)].decode(errors="ignore")[:chars]

    def chars_between(self, start: int, end: int) -> int:
        """The number of characters between two places."""
        if self.chars == self.end - self.start:
            return end - start
        return sum(
            len(self.data[at : min(at + _STEP, end)].translate(None, _CONTINUATION)) for at in range(start, end, _STEP)
        )


class Texts:
    """The contents of files that are not empty, given in parts. If a path repeats, the last one counts."""

    def __init__(self, contents: Iterable[tuple[str, Iterable[str]]]) -> None:
        self._places: dict[str, tuple[int, int, int]] = {}
        self._data: mmap | bytes = b""
        with scratch_file() as file:
            end = 0
            for path, parts in contents:
                self._places.pop(path, None)
                start, chars = end, 0
                for part in parts:
                    end += file.write(part.encode())
                    chars += len(part)
                if chars:
                    self._places[path] = start, end, chars
            if end:
                file.flush()
                self._data = mmap(file.fileno(), 0, access=ACCESS_READ)

    def __iter__(self) -> Iterator[tuple[str, Text]]:
        return ((path, Text(self._data, *place)) for path, place in self._places.items())

    def get(self, path: str) -> Text | None:
        """A file's content, or None if it was not sent or is empty."""
        place = self._places.get(path)
        return None if place is None else Text(self._data, *place)
