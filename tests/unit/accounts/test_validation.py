"""What people may call themselves, and what they are told otherwise."""

from __future__ import annotations

import pytest

from wherry.accounts.models import Changes, Registration
from wherry.accounts.validation import checked_changes, checked_registration, normalize_email
from wherry.errors import Invalid

GOOD = {"username": "alice", "email": "alice@example.com", "password": "pw", "bio": None, "image": None}


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"email": "no address"}, {"email"}),
        ({"email": "a@b"}, {"email"}),
        ({"email": "a\r\nBcc: b@example.com"}, {"email"}),
        ({"email": f"{'a' * 300}@example.com"}, {"email"}),
        ({"email": "nul\0@example.com"}, {"email"}),
        ({"username": "u" * 101}, {"username"}),
        ({"username": "nul\0"}, {"username"}),
        ({"username": " \t\n"}, {"username"}),
        ({"password": "p" * 1025}, {"password"}),
        ({"password": "é" * 513}, {"password"}),
        ({"password": "nul\0"}, {"password"}),
        ({"bio": "b" * 5001}, {"bio"}),
        ({"image": "i" * 2001}, {"image"}),
        ({"bio": "\0", "image": "\0", "username": "", "email": None}, {"bio", "image", "username", "email"}),
    ],
)
def test_every_value_that_cannot_be_kept_is_refused_by_name(fields: dict[str, str], at_fault: set[str]) -> None:
    with pytest.raises(Invalid) as registering:
        checked_registration(Registration(**{**GOOD, **fields}))
    assert set(registering.value.fields) == at_fault
    assert registering.value.status == 422

    with pytest.raises(Invalid) as changing:
        checked_changes(Changes(**{name: value for name, value in fields.items() if value is not None}))
    assert set(changing.value.fields) == {name for name in at_fault if fields[name] is not None}


@pytest.mark.parametrize("email", ["a@example.com", "a@wherry.test", "a+tag@sub.example.org", "ü@bücher.example"])
def test_addresses_of_test_domains_are_addresses(email: str) -> None:
    assert checked_registration(Registration("a", email, "pw")).email == email


def test_the_longest_values_are_kept() -> None:
    longest = Registration("u" * 100, "a@example.com", "p" * 1024, "b" * 5000, "i" * 2000)

    assert checked_registration(longest) == longest


def test_an_address_has_one_form_whatever_its_case_spaces_and_composition() -> None:
    assert normalize_email(" JOSE\u0301@Example.COM ") == normalize_email("jos\u00e9@example.com")


def test_a_password_keeps_its_spaces() -> None:
    assert checked_registration(Registration("a", "a@example.com", "  pw ")).password == "  pw "


def test_an_emptied_bio_is_cleared_and_an_absent_one_is_left_alone() -> None:
    assert checked_changes(Changes(bio="  ")).clear == {"bio"}
    assert checked_changes(Changes(username="a")).clear == frozenset()
