"""Which tokens are valid."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from wherry.accounts.tokens import Tokens
from wherry.errors import Unauthenticated

SECRET = "a secret of tests that is longer than 32 bytes"
LONG_SECRET = SECRET * 2  # HS512 asks for 64 bytes
TOKENS = Tokens(LONG_SECRET, timedelta(hours=24))


def _claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    claims = {"sub": "7", "iat": now, "exp": now + timedelta(hours=1), **changes}
    return {name: value for name, value in claims.items() if value is not None}


def _signed(algorithm: str = "HS256", secret: str = LONG_SECRET, **changes: Any) -> str:
    return jwt.encode(_claims(**changes), secret, algorithm)


def _unsigned(header: dict[str, Any]) -> str:
    parts = (header, {"sub": "7", "iat": 0, "exp": 4102444800})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def test_a_token_contains_only_its_account_and_its_times() -> None:
    token = TOKENS.issue(7)

    assert TOKENS.read(token).user_id == 7
    claims = jwt.decode(token, LONG_SECRET, ["HS256"])
    assert set(claims) == {"sub", "user", "iat", "exp"}
    assert (claims["sub"], claims["user"]) == ("7", {"id": 7})
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_a_token_needs_only_a_subject_and_an_expiry() -> None:
    assert TOKENS.read(_signed(iat=None)).user_id == 7
    assert TOKENS.read(_signed(iat=None, sub=7)).user_id == 7


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -1), ("iat", 3), ("iat", 57)])
def test_clocks_may_differ_a_little(claim: str, seconds: int) -> None:
    assert TOKENS.read(_signed(**{claim: datetime.now(UTC) + timedelta(seconds=seconds)})).user_id == 7


def test_a_token_is_not_accepted_long_before_it_was_issued() -> None:
    with pytest.raises(Unauthenticated):
        TOKENS.read(_signed(iat=datetime.now(UTC) + timedelta(seconds=65)))


def test_a_token_is_invalid_after_the_password_has_changed() -> None:
    changed_at = datetime.now(UTC)
    before, after = TOKENS.issue(7, now=changed_at), TOKENS.issue(7, password_changed_at=changed_at)

    assert TOKENS.read(before).outlived(changed_at)
    assert not TOKENS.read(before).outlived(None)
    assert not TOKENS.read(after).outlived(changed_at)
    assert TOKENS.read(_signed(iat=None)).outlived(changed_at)


def test_a_token_expires() -> None:
    old = TOKENS.issue(7, now=datetime.now(UTC) - timedelta(hours=24, seconds=10))

    with pytest.raises(Unauthenticated):
        TOKENS.read(old)


def test_a_token_expires_although_it_was_accepted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    token, issued_at = TOKENS.issue(7), time.time()
    for hours in (0, 23.9):
        monkeypatch.setattr(time, "time", lambda hours=hours: issued_at + hours * 3600)
        assert TOKENS.read(token).user_id == 7
    for hours in (24.1, -1):  # on a clock that was set back, it is from the future
        monkeypatch.setattr(time, "time", lambda hours=hours: issued_at + hours * 3600)
        with pytest.raises(Unauthenticated):
            TOKENS.read(token)


def test_a_token_is_valid_from_the_time_that_it_names() -> None:
    assert TOKENS.read(_signed(nbf=datetime.now(UTC) + timedelta(seconds=3))).user_id == 7
    with pytest.raises(Unauthenticated):
        TOKENS.read(_signed(nbf=datetime.now(UTC) + timedelta(minutes=1)))


def test_a_remembered_token_is_refused_under_another_secret() -> None:
    token = TOKENS.issue(7)
    assert TOKENS.read(token).user_id == 7
    with pytest.raises(Unauthenticated):
        Tokens(SECRET, timedelta(hours=24)).read(token)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(_unsigned({"alg": "none", "typ": "JWT"}), id="alg none"),
        pytest.param(_unsigned({"alg": "None"}), id="alg None"),
        pytest.param(_unsigned({"alg": "HS256"}), id="no signature"),
        pytest.param(_unsigned({}), id="no algorithm"),
        pytest.param(_signed("HS512"), id="HS512"),
        pytest.param(_signed("HS384"), id="HS384"),
        pytest.param(_signed(secret="another secret that is also longer than 32"), id="another secret"),
        pytest.param(_signed(exp=datetime.now(UTC) - timedelta(seconds=10)), id="expired"),
        pytest.param(_signed(iat=datetime.now(UTC) + timedelta(hours=1)), id="not yet issued"),
        pytest.param(_signed(iat=[1]), id="array as iat"),
        pytest.param(_signed(iat=float("nan")), id="not a number as iat"),
        pytest.param(_signed(iat=float("inf")), id="infinity as iat"),
        pytest.param(_signed(exp=None), id="no exp"),
        pytest.param(_signed(exp="soon"), id="letters as exp"),
        pytest.param(_signed(exp=float("inf")), id="infinity as exp"),
        pytest.param(_signed(nbf="soon"), id="letters as nbf"),
        pytest.param(jwt.encode({**_claims(), "nbf": None}, LONG_SECRET, "HS256"), id="null as nbf"),
        pytest.param(_signed(sub=None), id="no sub"),
        pytest.param(_signed(sub=-7), id="negative number as sub"),
        pytest.param(_signed(sub=True), id="boolean sub"),
        pytest.param(_signed(sub=7.5), id="sub with a fraction"),
        pytest.param(_signed(sub=[7]), id="array as sub"),
        pytest.param(_signed(sub="0"), id="sub 0"),
        pytest.param(_signed(sub="-7"), id="negative sub"),
        pytest.param(_signed(sub="²"), id="sub that is a digit to unicode only"),
        pytest.param(_signed(sub="9" * 5000), id="sub too large"),
        pytest.param(_signed(sub="2147483648"), id="sub past the last id"),
        pytest.param(_signed(sub="alice"), id="sub of letters"),
        pytest.param(TOKENS.issue(7)[:-2], id="cut"),
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="letters"),
        pytest.param("é.é.é", id="not ASCII"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 30000).decode().rstrip("=") + ".e30.x", id="nested deep"),
    ],
)
def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        TOKENS.read(token)
