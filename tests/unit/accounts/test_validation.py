"""Which values of accounts are valid, and the messages for those that are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.hostile import AMBIGUOUS
from wherry.accounts.models import Account, Changes, Registration
from wherry.accounts.validation import checked_changes, checked_registration, normalize_email
from wherry.errors import Invalid

GOOD = {"username": "alice", "email": "alice@example.com", "password": "pw", "bio": None, "image": None}
ALICE = Account(1, "alice@example.com", "alice", "user", True, None, None)


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
def test_every_invalid_value_is_refused_by_field(fields: dict[str, str], at_fault: set[str]) -> None:
    with pytest.raises(Invalid) as registering:
        checked_registration(Registration(**{**GOOD, **fields}))
    assert set(registering.value.fields) == at_fault
    assert registering.value.status == 422

    with pytest.raises(Invalid) as changing:
        checked_changes(Changes(**{name: value for name, value in fields.items() if value is not None}), ALICE)
    assert set(changing.value.fields) == {name for name in at_fault if fields[name] is not None}


@pytest.mark.parametrize("email", ["a@example.com", "a@wherry.test", "a+tag@sub.example.org", "ü@bücher.example"])
def test_addresses_in_test_domains_are_accepted(email: str) -> None:
    assert checked_registration(Registration("a", email, "pw")).email == email


def test_the_longest_values_are_accepted() -> None:
    longest = Registration("u" * 100, "a@example.com", "p" * 1024, "b" * 5000, "i" * 2000)

    assert checked_registration(longest) == longest


def test_an_address_is_normalized_in_case_spaces_and_composition() -> None:
    assert normalize_email(" JOSE\u0301@Example.COM ") == normalize_email("jos\u00e9@example.com")


def test_a_password_keeps_its_spaces() -> None:
    assert checked_registration(Registration("a", "a@example.com", "  pw ")).password == "  pw "


def test_an_empty_bio_is_cleared_and_an_absent_one_is_unchanged() -> None:
    assert checked_changes(Changes(bio="  "), ALICE).clear == {"bio"}
    assert checked_changes(Changes(username="a"), ALICE).clear == frozenset()


@pytest.mark.parametrize("username", ["bob@example.com", "@bob", "alice@example.com.", "alice@example.org"])
def test_a_username_that_is_somebody_elses_address_is_refused(username: str) -> None:
    """An imported account's username is its e-mail address, so such a username would keep somebody else out."""
    for attempt in (
        lambda: checked_registration(Registration(username, "alice@example.com", "pw")),
        lambda: checked_changes(Changes(username=username), ALICE),
        lambda: checked_changes(Changes(username=username, email="a@example.com"), ALICE),
    ):
        with pytest.raises(Invalid) as refused:
            attempt()
        assert set(refused.value.fields) == {"username"}


def test_ones_own_address_and_ones_present_username_are_accepted() -> None:
    own = Registration(" Alice@Example.com ", "alice@example.com", "pw")
    imported = replace(ALICE, username="old@example.com")

    assert checked_registration(own).username == "Alice@Example.com"
    assert checked_changes(Changes(username="alice@example.com"), ALICE).username == "alice@example.com"
    assert checked_changes(Changes(username="new@example.com", email="New@example.com"), ALICE).username
    assert checked_changes(Changes(username="old@example.com", email="new@example.com"), imported).username


def test_faults_of_the_username_and_other_fields_are_reported_together() -> None:
    with pytest.raises(Invalid) as refused:
        checked_registration(Registration("bob@example.com", "alice@example.com", " "))
    assert set(refused.value.fields) == {"username", "password"}


@pytest.mark.parametrize("username", ["alice", "Alice Liddell", "alice.liddell+1", "ålice_7", "爱丽丝", "a-b", "#1"])
def test_usual_usernames_are_accepted(username: str) -> None:
    assert checked_registration(Registration(username, "alice@example.com", "pw")).username == username


@pytest.mark.parametrize("email", AMBIGUOUS)
def test_an_address_that_can_be_mistaken_for_another_is_refused(email: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked_registration(Registration(**{**GOOD, "email": email}))
    assert set(refused.value.fields) == {"email"}


@pytest.mark.parametrize("email", ["jos\u00e9@example.com", "\u043f\u0451\u0442\u0440@example.com", "\u5c71@x.org"])
def test_an_address_may_have_letters_of_any_script(email: str) -> None:
    assert checked_registration(Registration(**{**GOOD, "email": email})).email == email
