"""The rules for values in import records, one for each family of PostgreSQL types.

A rule takes a JSON value other than null, and returns the value to store or a `Fault`. It sees only what the typed
decoder refused. It reports the first problem: it checks the type, then the form, then the content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from uuid import UUID

from msgspec import Raw

from wherry.errors import ErrorCode

SHOWN_LABELS = 20
"""How many values of an enum a message lists."""

_UUID = re.compile(r"(\{)?(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}(?(1)\})", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?\s*", re.IGNORECASE)
_DIGITS = re.compile(r"\s*[-+]?[0-9]{1,20}\s*")
_ZONE = re.compile(r":[0-9]{2}(?:[.,][0-9]+)?\s{0,9}(?!(?:[ap]m|bc|ad)\b)[-+a-z]", re.IGNORECASE)
_TIME = re.compile(r"[0-9]:[0-9]|[0-9]t[0-9]", re.IGNORECASE)
_EXPONENT = re.compile(rb"[0-9][eE]")
NOT_FINITE = {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity", "-infinity": "-Infinity", "-inf": "-Infinity"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a field. `text` continues a sentence that starts with its name: "must not be empty"."""

    code: ErrorCode
    text: str


@dataclass(frozen=True, slots=True)
class OversizedNumber:
    """A number too large for any type: `1e400`, or an integer of thousands of digits."""

    text: str

    @property
    def is_integer(self) -> bool:
        return self.text.removeprefix("-").isdigit()


class Unparsed(str):
    """The text of a value that only PostgreSQL can read, such as an infinite date."""

    __slots__ = ()


_OUT_OF_RANGE = Fault(ErrorCode.INVALID_FIELD_FORMAT, "is out of range")

Rule = Callable[[object], object]
"""Returns the value to store, or a `Fault`."""


def wrong_type(what: str) -> Fault:
    """The fault of a value whose JSON type is wrong."""
    return Fault(ErrorCode.INVALID_FIELD_TYPE, f"must be {what}")


def integer(least: int, most: int) -> Rule:
    """An integer in a range, or a string of its digits; not `1.0` or `true`."""
    out_of_range = Fault(ErrorCode.INVALID_FIELD_FORMAT, f"must be from {least} to {most}")

    def rule(value: object) -> object:
        if isinstance(value, OversizedNumber) and value.is_integer:
            return out_of_range
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return wrong_type("an integer")
        return value if least <= value <= most else out_of_range

    return rule


def boolean(value: object) -> object:
    """`true` or `false`, not a word for them."""
    return value if isinstance(value, bool) else wrong_type("true or false")


def numeric(value: object) -> object:
    """A number, or a string of one: `NaN` and the infinities can only be strings."""
    if isinstance(value, OversizedNumber):
        value = value.text
    if isinstance(value, str) and (_NUMBER.fullmatch(value) or value.lower() in NOT_FINITE):
        try:
            return Decimal(NOT_FINITE.get(value.lower(), value.strip()))
        except InvalidOperation:
            return _OUT_OF_RANGE
    return wrong_type("a number")


def floating(most: float) -> Rule:
    """A number of at most a size, or a string of one; see `numeric`."""

    def rule(value: object) -> object:
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, OversizedNumber):
            value = value.text
        if not isinstance(value, str):
            return wrong_type("a number")
        if value.lower() in NOT_FINITE:
            return float(NOT_FINITE[value.lower()])
        if not _NUMBER.fullmatch(value):
            return wrong_type("a number")
        number = float(value)
        return number if abs(number) <= most else _OUT_OF_RANGE

    return rule


def string(value: object) -> str | Fault:
    """A string. PostgreSQL's text cannot hold NUL (manual, 8.3 Character Types)."""
    if not isinstance(value, str):
        return wrong_type("a string")
    if "\0" in value:
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not contain the character NUL")
    return value


def text(max_characters: int | None = None) -> Rule:
    """A string of limited length. As in PostgreSQL, spaces at its end do not count."""

    def rule(value: object) -> object:
        found = string(value)
        if isinstance(found, Fault) or max_characters is None or len(found) <= max_characters:
            return found
        return found if not found[max_characters:].strip(" ") else too_long(max_characters)

    return rule


def too_long(max_characters: int) -> Fault:
    """The fault of a longer string."""
    return Fault(ErrorCode.FIELD_TOO_LONG, f"must be at most {max_characters} characters")


def unparsed(value: object) -> object:
    """A string that PostgreSQL judges when it is written."""
    found = string(value)
    return found if isinstance(found, Fault) else Unparsed(found)


def local_moment(value: object) -> object:
    """A date-time without an offset or a time zone, which PostgreSQL would ignore."""
    found = unparsed(value)
    if isinstance(found, Unparsed) and _ZONE.search(found):
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not have an offset from UTC, or a time zone")
    return found


def date(value: object) -> object:
    """A date without a time, which PostgreSQL would ignore."""
    found = unparsed(value)
    if isinstance(found, Unparsed) and _TIME.search(found):
        return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not have a time")
    return found


def uuid(value: object) -> object:
    """A UUID in any of the forms that PostgreSQL reads."""
    found = string(value)
    if isinstance(found, Fault):
        return found
    return UUID(found) if _UUID.fullmatch(found) else Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be a UUID")


def base64(value: object) -> object:
    """Nothing: whatever is base64, the typed decoder has accepted."""
    return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must be base64") if isinstance(value, str) else wrong_type("a string")


def one_of(labels: Iterable[str]) -> Rule:
    """One of the labels of an enum."""
    known = list(labels)
    shown = ", ".join(known[:SHOWN_LABELS]) + (", …" if len(known) > SHOWN_LABELS else "")

    def rule(value: object) -> object:
        if not isinstance(value, str):
            return wrong_type("a string")
        return value if value in known else Fault(ErrorCode.INVALID_ENUM_VALUE, f"must be one of {shown}")

    return rule


def array(element: Rule, typed: Callable[[object], object]) -> Rule:
    """An array of any number of dimensions. `typed` converts an element, or raises `ValueError`."""

    def convert(value: object) -> object:
        if value is None:
            return None
        try:
            found = typed(value)
        except ValueError:
            return element(value)
        return string(found) if isinstance(found, str) else found

    def rule(value: object) -> object:
        if not isinstance(value, list):
            return wrong_type("an array")
        rows = [rule(each) if isinstance(each, list) else convert(each) for each in value]
        fault = next((row for row in rows if isinstance(row, Fault)), None)
        if fault is not None:
            return Fault(fault.code, f"has an element that {fault.text}")
        if len({_shape(row) for row in rows}) > 1:
            return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must have rows of equal length")
        return [] if rows and 0 in _shape(rows) else rows  # PostgreSQL has only one empty array

    return rule


def json(value: object) -> object:
    """Nothing: the typed decoder has accepted all JSON but that with NUL."""
    return Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not contain the character NUL")


def surely(value: object) -> bool:
    """PostgreSQL accepts whatever the decoder accepts."""
    return True


def perhaps(value: object) -> bool:
    """Only PostgreSQL knows."""
    return False


def is_below(limit: Decimal | int) -> Callable[[Decimal], bool]:
    """Whether a number is nearer to zero than a limit."""
    return lambda value: value.is_finite() and -limit < value < limit


def is_plain_json(text: Raw) -> bool:
    """Whether JSON is so simple that jsonb accepts it: no escaped characters, huge numbers or deep nesting."""
    json = bytes(text)
    return len(json) < 1000 and b"\\u" not in json and not _EXPONENT.search(json)


def has_unparsed(value: object) -> bool:
    """Whether a value has a part that only PostgreSQL can read."""
    return isinstance(value, Unparsed) or (isinstance(value, list) and any(map(has_unparsed, value)))


def _shape(row: object) -> tuple[int, ...]:
    if not isinstance(row, list):
        return ()
    return (len(row), *(_shape(row[0]) if row else ()))
