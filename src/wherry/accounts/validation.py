"""Validates and trims the fields of accounts. `Invalid` lists all faults of all fields."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from email_validator import EmailNotValidError, validate_email

from wherry.accounts.models import Account, Changes, Registration
from wherry.errors import Invalid
from wherry.tables.builtin.rules import is_unambiguous
from wherry.texts import MAX_EMAIL_CHARACTERS, has_long_run_of_marks

Profile = TypeVar("Profile", Registration, Changes)

BLANK = "can't be blank"
TAKEN = "has already been taken"
MAX_CHARACTERS = {"username": 100, "email": MAX_EMAIL_CHARACTERS, "bio": 5000, "image": 2000}
MAX_PASSWORD_BYTES = 1024
MIN_PASSWORD_CHARACTERS = 8
REQUIRED = ("username", "email", "password")
FIELDS = (*REQUIRED, "bio", "image")


def normalize_email(email: str) -> str:
    """The form in which e-mail addresses are stored and compared: trimmed, composed (NFC), lower case.

    Text that cannot be an address is only trimmed; no account has it.
    """
    email = email.strip()
    if len(email) > MAX_EMAIL_CHARACTERS or has_long_run_of_marks(email):
        return email
    return unicodedata.normalize("NFC", email).lower()


def checked_registration(asked: Registration, *, later: Container[str] = ()) -> Registration:
    """The registration with its fields trimmed; an empty bio or image becomes None.

    Raises:
        Invalid: lists every invalid field, except those that are set `later`.
    """
    faults = {name: list(_faults(name, getattr(asked, name))) for name in FIELDS if name not in later}
    faults["username"].extend(_addresses_of_others(asked.username, asked.email))
    refuse(faults)
    return _trimmed(asked)


def checked_changes(asked: Changes, account: Account) -> Changes:
    """The changes with their fields trimmed; an empty bio or image is added to `clear`.

    Raises:
        Invalid: lists every invalid field.
    """
    faults = {name: list(_faults(name, value)) for name, value in _given(asked)}
    if asked.username is not None and asked.username.strip() != account.username:
        faults["username"].extend(_addresses_of_others(asked.username, asked.email or account.email))
    refuse(faults)
    emptied = {name for name, value in _given(asked) if name not in REQUIRED and not value.strip()}
    return replace(_trimmed(asked), clear=asked.clear | emptied)


def check_password(password: str | None) -> str:
    """A password that may be set by link or on the command line. Registration accepts shorter ones, for older clients.

    Raises:
        Invalid: it is blank, too short or too long.
    """
    faults = list(_faults("password", password))
    if not faults and len(password or "") < MIN_PASSWORD_CHARACTERS:
        faults.append(f"is too short (minimum is {MIN_PASSWORD_CHARACTERS} characters)")
    refuse({"password": faults})
    return password or ""


def refuse_blank(**fields: str | None) -> None:
    """Raise `Invalid` for the fields that are absent or blank."""
    refuse({name: [BLANK] for name, value in fields.items() if value is None or not value.strip()})


def refuse_taken(*, email: bool, username: bool) -> None:
    """Raise `Invalid` for the fields that another account has."""
    found = {"email": email, "username": username}
    refuse({name: [TAKEN] for name, taken in found.items() if taken})


def _faults(name: str, value: str | None) -> Iterator[str]:
    if value is None or not value.strip():
        if name in REQUIRED:
            yield BLANK
    elif "\0" in value:
        yield "must not contain the character U+0000"
    elif name == "password":
        if len(value.encode()) > MAX_PASSWORD_BYTES:
            yield f"is too long (maximum is {MAX_PASSWORD_BYTES} bytes)"
    elif len(value.strip()) > MAX_CHARACTERS[name]:
        yield f"is too long (maximum is {MAX_CHARACTERS[name]} characters)"
    elif name == "email" and not _is_email(value.strip()):
        yield "is not a valid e-mail address"


def _addresses_of_others(username: str | None, email: str | None) -> Iterator[str]:
    """A username that looks like an address would block the import of that address's account, whose username it is."""
    if "@" in (username or "") and normalize_email(username or "") != normalize_email(email or ""):
        yield "must not contain @, unless it is your own e-mail address"


def _is_email(value: str) -> bool:
    if has_long_run_of_marks(value):
        return False
    try:
        validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return False
    return is_unambiguous(normalize_email(value))


def refuse(faults: Mapping[str, list[str]]) -> None:
    """Raise `Invalid` for the fields that have messages."""
    found = {name: messages for name, messages in faults.items() if messages}
    if found:
        raise Invalid("; ".join(f"{name} {text}" for name, texts in found.items() for text in texts), fields=found)


def _given(asked: Changes) -> list[tuple[str, str]]:
    return [(name, value) for name in FIELDS if (value := getattr(asked, name)) is not None]


def _trimmed(asked: Profile) -> Profile:
    return replace(
        asked,
        username=asked.username.strip() if asked.username is not None else None,
        email=normalize_email(asked.email) if asked.email is not None else None,
        bio=asked.bio.strip() or None if asked.bio is not None else None,
        image=asked.image.strip() or None if asked.image is not None else None,
    )
