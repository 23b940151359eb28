"""The rules for the fields of the built-in tables, which are stricter than those of their types; see `values.py`."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from re import Pattern
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wherry.errors import ErrorCode
from wherry.tables import values
from wherry.tables.shape import FieldRule
from wherry.tables.values import Fault, OversizedNumber, Rule, too_long
from wherry.texts import MAX_EMAIL_CHARACTERS, MAX_MARKS, has_long_run_of_marks

MAX_ID = 2_147_483_647
"""The maximum of PostgreSQL's `integer`."""

# A text can match each of these in one way only, so that even megabytes are checked in one pass. That is why the dot of
# an address is the first one after the second character of its domain.
MAX_SLUG_CHARACTERS = 500
EMAIL = r"^[^\s@]+@[^\s@][^\s@.]*\.[^\s@]+$"
KEBAB_CASE = r"^[a-z0-9]+(-[a-z0-9]+)*$"

_DATE = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}-W[0-9]{2}-[0-9]|[0-9]{4}W[0-9]{3})"
    r"(?:[T ][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.IGNORECASE,
)


def identifier(value: object) -> object:
    """An integer from 1 to 2147483647; not `1.0`, `"1"` or `true`."""
    if isinstance(value, OversizedNumber) and value.is_integer:
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, f"must be from 1 to {MAX_ID}")
    if not isinstance(value, int) or isinstance(value, bool):
        return Fault(ErrorCode.INVALID_FIELD_TYPE, "must be an integer")
    if not 1 <= value <= MAX_ID:
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, f"must be from 1 to {MAX_ID}")
    return value


def string(value: object) -> str | Fault:
    """A string, trimmed."""
    text = values.string(value)
    return text.strip() if isinstance(text, str) else text


def present(value: object) -> object:
    """A string that is not empty once trimmed."""
    text = string(value)
    return text if text != "" else Fault(ErrorCode.FIELD_TOO_SHORT, "must not be empty")


def lower_case(pattern: str, description: str, max_characters: int) -> Rule:
    """A string that, trimmed and in lower case, matches a pattern. The pattern is not tried on too long a string."""
    compiled: Pattern[str] = re.compile(pattern)

    def rule(value: object) -> object:
        text = string(value)
        if isinstance(text, Fault):
            return text
        if len(text) > max_characters:
            return too_long(max_characters)
        text = text.lower()
        if not compiled.match(text):
            return Fault(ErrorCode.INVALID_FIELD_FORMAT, f"must be {description}")
        return text if len(text) <= max_characters else too_long(max_characters)  # may be longer in lower case

    return rule


_email = lower_case(EMAIL, "an e-mail address", MAX_EMAIL_CHARACTERS)


def email(value: object) -> object:
    """An e-mail address of the form x@y.z, in lower case and composed (NFC), as registration stores it."""
    address = _email(value)
    if not isinstance(address, str):
        return address
    if has_long_run_of_marks(address):
        detail = f"must have at most {MAX_MARKS} combining marks in a row"
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, detail)
    composed = unicodedata.normalize("NFC", address)
    if len(composed) > MAX_EMAIL_CHARACTERS:
        return too_long(MAX_EMAIL_CHARACTERS)
    return composed if is_unambiguous(composed) else Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be an e-mail address")


def words(value: object) -> object:
    """An array of strings, trimmed, without empty and repeated ones, in the given order."""
    if not isinstance(value, list):
        return Fault(ErrorCode.INVALID_FIELD_TYPE, "must be an array of strings")
    kept: dict[str, None] = {}
    for item in value:
        text = string(item)
        if isinstance(text, Fault):
            wrong_type = text.code is ErrorCode.INVALID_FIELD_TYPE
            return Fault(text.code, "must be an array of strings") if wrong_type else text
        if text:
            kept[text] = None
    return list(kept)


def instant(value: object) -> object:
    """An ISO 8601 date or date-time, converted to UTC. Without an offset it is taken as UTC."""
    text = string(value)
    if isinstance(text, Fault):
        return text
    moment = parse_instant(text)
    return moment or Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be an ISO 8601 date or date-time")


def parse_instant(text: str) -> datetime | None:
    """An ISO 8601 date or date-time in UTC, or None if the text is not one."""
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = _read_instant(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_instant(text: str) -> datetime:
    try:
        # First as the typed decoder does, which rounds fractions that the standard library truncates.
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return datetime.fromisoformat(text.upper())


def is_utc(moment: datetime | None) -> bool:
    """Whether a moment from the typed decoder is already in UTC, as it is stored."""
    return moment is None or moment.tzinfo is UTC


def is_trimmed(text: str | None) -> bool:
    """Whether a text is trimmed. `strip` returns the same object if there is nothing to strip."""
    return text is None or text.strip() is text


def is_email(address: str) -> bool:
    """Whether `email` would not change an address that matches."""
    if address.lower() != address or address.strip() is not address:
        return False
    return address.isascii() or (
        not has_long_run_of_marks(address) and unicodedata.is_normalized("NFC", address) and is_unambiguous(address)
    )


def is_unambiguous(address: str) -> bool:
    """Whether an address, in lower case and composed, has no invisible character and no equivalent (NFKC, casefold).

    Other addresses are refused rather than replaced with their equivalent, which may belong to somebody else. Check the
    length first.
    """
    if address.isascii():
        return True
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())
    return folded == address and all(unicodedata.category(character) != "Cf" for character in address)


def are_words(texts: list[str]) -> bool:
    """Whether `words` would not change an array of strings."""
    return "" not in texts and len(set(texts)) == len(texts) and all(map(is_trimmed, texts))


def at_most_words(limit: int) -> FieldRule:
    """A string of 1 to `limit` words; words are separated by white space."""

    def rule(value: object) -> object:
        text = present(value)
        if isinstance(text, str) and len(text.split(None, limit)) > limit:
            return Fault(ErrorCode.FIELD_TOO_LONG, f"must be at most {limit} words")
        return text

    def keeps(text: str) -> bool:
        return is_trimmed(text) and (len(text) < 2 * limit or len(text.split(None, limit)) <= limit)

    return FieldRule(PRESENT.typed, rule, keeps)


def one_of(*choices: str) -> FieldRule:
    """One of a few words, in any case."""

    def rule(value: object) -> object:
        text = string(value)
        if isinstance(text, Fault):
            return text
        text = text.lower()
        return text if text in choices else Fault(ErrorCode.INVALID_ENUM_VALUE, f"must be one of {', '.join(choices)}")

    return FieldRule(Literal[choices], rule)


ID = FieldRule(Annotated[int, Meta(ge=1, le=MAX_ID)], identifier)
PRESENT = FieldRule(Annotated[str, Meta(min_length=1)], present, is_trimmed)
# The decoder checks the length before the pattern.
ADDRESS = FieldRule(
    Annotated[str, Meta(pattern=EMAIL, max_length=MAX_EMAIL_CHARACTERS, description="lower case")], email, is_email
)
SLUG = FieldRule(
    Annotated[str, Meta(pattern=KEBAB_CASE, max_length=MAX_SLUG_CHARACTERS)],
    lower_case(KEBAB_CASE, "in kebab case: a-z, 0-9 and single hyphens", MAX_SLUG_CHARACTERS),
    is_trimmed,
)
WORDS = FieldRule(list[str], words, are_words)
INSTANT = FieldRule(datetime, instant, is_utc)
BOOLEAN = FieldRule(bool, values.boolean)
