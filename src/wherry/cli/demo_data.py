"""Generates the records of `wherry demo`, one in a hundred of them broken on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

FIRST_USER_ID = 2  # the account that registers first has id 1
BROKEN_EVERY = 100
_TEXT = (
    "harbour tide barge cargo river ferry oar keel current lantern rope mast anchor shoal pier gull fog bell "
    "ledger manifest crate barrel salt grain timber wool iron copper tin lock weir bridge ford quay dock"
)
WORDS = tuple(_TEXT.split())

Record = dict[str, Any]
Breakage = tuple[str, Callable[[Record], Record | msgspec.Raw]]


@dataclass
class Sample:
    """One resource's records, and how many errors of each name the lines so far contain."""

    resource: str
    total: int
    record: Callable[[int], Record]
    breakages: tuple[Breakage, ...]
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def broken(self) -> int:
        return self.total // BROKEN_EVERY

    def lines(self) -> Iterator[bytes]:
        """The records as ndjson."""
        for index in range(self.total):
            record = self.record(index)
            line: Record | msgspec.Raw = record
            if _is_broken(index):
                error, spoil = self.breakages[index // BROKEN_EVERY % len(self.breakages)]
                self.errors[error] += 1
                line = spoil(record)
            yield msgspec.json.encode(line) + b"\n"


def users(count: int) -> Sample:
    """Accounts with ids from 2."""

    def record(index: int) -> Record:
        number = FIRST_USER_ID + index
        return {"id": number, "email": f"sailor{number}@example.com", "name": f"Sailor {number}", "active": True}

    return Sample("users", count, record, (*_BAD_ANY, *_BAD_USERS))


def articles(count: int, user_count: int) -> Sample:
    """Articles of about 400 bytes, whose authors are valid accounts."""

    def record(index: int) -> Record:
        return {
            "id": index + 1,
            "slug": f"log-entry-{index + 1}",
            "title": f"Log entry {index + 1}: {_words(index, 3)}",
            "body": _words(index, 40),
            "author_id": FIRST_USER_ID + valid_index(index, user_count),
            "tags": [WORDS[index % len(WORDS)], WORDS[index // 7 % len(WORDS)]],
            "status": "published",
            "published_at": f"2026-01-{index % 28 + 1:02d}T12:00:00.000Z",
        }

    return Sample("articles", count, record, (*_BAD_ANY, *_BAD_ARTICLES))


def comments(count: int, article_count: int, user_count: int) -> Sample:
    """Comments by valid accounts on valid articles."""

    def record(index: int) -> Record:
        return {
            "id": index + 1,
            "article_id": 1 + valid_index(index, article_count),
            "user_id": FIRST_USER_ID + valid_index(index * 7, user_count),
            "body": _words(index, 12),
        }

    return Sample("comments", count, record, (*_BAD_ANY, *_BAD_COMMENTS))


def spoiled_json(record: Record) -> msgspec.Raw:
    """A record without its closing brace."""
    return msgspec.Raw(msgspec.json.encode(record)[:-1])


_BAD_ANY: tuple[Breakage, ...] = (
    ("INVALID_FIELD_TYPE", lambda record: record | {"id": str(record["id"])}),
    ("PARSE_ERROR", spoiled_json),
)
_BAD_USERS: tuple[Breakage, ...] = (
    ("MISSING_REQUIRED_FIELD", lambda record: record | {"name": None}),
    ("INVALID_FIELD_FORMAT", lambda record: record | {"email": "no address"}),
    ("INVALID_ENUM_VALUE", lambda record: record | {"role": "captain"}),
)
_BAD_ARTICLES: tuple[Breakage, ...] = (
    ("FIELD_TOO_SHORT", lambda record: record | {"title": "  "}),
    ("DUPLICATE_VALUE", lambda record: record | {"slug": "log-entry-1"}),
    ("INVALID_REFERENCE", lambda record: record | {"author_id": 2_000_000_000}),
)
_BAD_COMMENTS: tuple[Breakage, ...] = (
    ("FIELD_TOO_LONG", lambda record: record | {"body": "ahoy " * 501}),
    ("INVALID_REFERENCE", lambda record: record | {"article_id": 2_000_000_000}),
    ("INVALID_FIELD_FORMAT", lambda record: record | {"body": "cut\x00off"}),
)


def _is_broken(index: int) -> bool:
    return index % BROKEN_EVERY == BROKEN_EVERY - 1


def valid_index(index: int, count: int) -> int:
    """An index below `count` whose record is not broken."""
    chosen = index % count
    return chosen - 1 if _is_broken(chosen) else chosen


def _words(seed: int, count: int) -> str:
    return " ".join(WORDS[(seed * 31 + place * place * 7 + place) % len(WORDS)] for place in range(count))
