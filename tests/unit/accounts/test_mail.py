"""How SMTP_URL is parsed."""

from __future__ import annotations

import pytest

from wherry.accounts.mail import Mailer
from wherry.errors import Misconfigured


@pytest.mark.parametrize(
    ("url", "port", "encrypted", "starttls"),
    [
        ("smtp://mail.example", 25, False, False),
        ("smtp://mail.example:2525", 2525, False, False),
        ("smtp://mail.example?starttls", 587, False, True),
        ("smtp://mail.example?starttls=true", 587, False, True),
        ("smtp://mail.example?starttls=false", 25, False, False),
        ("smtps://mail.example", 465, True, False),
    ],
)
def test_a_url_gives_the_server_and_the_encryption(url: str, port: int, encrypted: bool, starttls: bool) -> None:
    mailer = Mailer.from_url(url, "wherry@example.com")

    assert (mailer.host, mailer.port, mailer.encrypted, mailer.starttls) == ("mail.example", port, encrypted, starttls)


def test_a_user_and_a_password_may_contain_any_character() -> None:
    mailer = Mailer.from_url("smtps://me%40example.com:p%2Fw%3A@mail.example", "wherry@example.com")

    assert (mailer.username, mailer.password) == ("me@example.com", "p/w:")
    assert "p/w:" not in repr(mailer)


@pytest.mark.parametrize("url", ["", "mail.example", "http://mail.example", "smtp://", "smtp://u:secret@host:port"])
def test_an_invalid_url_is_reported_without_showing_it(url: str) -> None:
    with pytest.raises(Misconfigured, match="SMTP_URL") as refused:
        Mailer.from_url(url, "wherry@example.com")
    assert "secret" not in str(refused.value)
