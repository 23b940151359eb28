"""The rules for fields, which take linear time for any value."""

from __future__ import annotations

import itertools
import re
import time

import msgspec
import pytest

from tests.builtin_tables import TABLES
from tests.hostile import AMBIGUOUS
from wherry.accounts.validation import normalize_email
from wherry.imports.decode import Decoder
from wherry.imports.models import RawRecord
from wherry.imports.readers.records import JsonParser
from wherry.tables.builtin import rules
from wherry.tables.builtin.users import USERS
from wherry.tables.values import Fault

OBVIOUS_EMAIL = r"^[^\s@]+@[^\s@]+\.[^\s@]+$"
LONG = 20_000
DATE = "2024-01-01T00:00:00."
HOSTILE = [
    ("users", {"name": "x", "email": "a@" + "." * LONG + "@"}),
    ("users", {"name": "x", "email": "a@" + "a." * LONG + " b"}),
    ("users", {"name": "x", "email": "@" * LONG}),
    ("articles", {"title": "x", "body": "x", "author_id": 1, "slug": "a" * LONG + "!"}),
    ("articles", {"title": "x", "body": "x", "author_id": 1, "slug": "a-" * LONG}),
    ("articles", {"title": "x", "body": "x", "author_id": 1, "slug": "a", "published_at": DATE + "0" * LONG + "x"}),
    ("comments", {"id": 1, "article_id": 1, "user_id": 1, "body": "x" + " " * LONG + "x "}),
]  # fmt: skip


def test_the_pattern_of_an_address_matches_what_the_obvious_one_does() -> None:
    texts = ("".join(letters) for n in range(9) for letters in itertools.product("a.@\n", repeat=n))

    assert all(bool(re.search(OBVIOUS_EMAIL, text)) is bool(re.search(rules.EMAIL, text)) for text in texts)


def test_the_typed_record_and_the_rule_have_the_same_pattern() -> None:
    schema = msgspec.json.schema(USERS.record)["$defs"]["User"]["properties"]["email"]

    assert schema["anyOf"][0]["pattern"] == rules.EMAIL
    assert rules.email("a@b.c") == "a@b.c"
    assert isinstance(rules.email("a@.c"), Fault)


@pytest.mark.parametrize(("resource", "record"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_value_takes_long_to_check(resource: str, record: dict[str, object]) -> None:
    decoder = Decoder(TABLES[resource], JsonParser(), caller_role="user", max_bytes=1 << 24)
    data = msgspec.json.encode(record)
    began = time.process_time()
    decoder.decode(RawRecord(0, len(data), data, len(data)))

    assert time.process_time() - began < 3


@pytest.mark.parametrize("email", AMBIGUOUS)
def test_no_account_is_imported_with_an_address_that_can_be_mistaken_for_another(email: str) -> None:
    decoder = Decoder(TABLES["users"], JsonParser(), caller_role="user", max_bytes=1000)
    data = msgspec.json.encode({"email": email, "name": "N"})
    (error,) = decoder.decode(RawRecord(0, len(data), data, len(data))).errors

    assert (int(error.code), error.field) == (1003, "email")


def test_an_address_is_imported_in_the_form_that_registration_stores() -> None:
    decoder = Decoder(TABLES["users"], JsonParser(), caller_role="user", max_bytes=1000)
    data = msgspec.json.encode({"email": "jose\u0301@example.com", "name": "N"})
    entry = decoder.decode(RawRecord(0, len(data), data, len(data)))

    assert not entry.errors
    assert entry.record is not None
    assert entry.record.email == normalize_email("jose\u0301@example.com") == "jos\u00e9@example.com"
