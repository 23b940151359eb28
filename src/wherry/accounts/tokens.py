"""Signs and reads the tokens that stand for an account.

In: an account's id. Out: a JWT (RFC 7519), HS256, with `sub`, `iat`, `exp`, and the id once more as `user.id`, where
clients of the older service read it. Another service that knows the secret may sign too: only `sub`, as a number or its
digits, and `exp` are needed. A token under any other algorithm, or none, is refused: the algorithm is ours to choose,
never the token's (RFC 8725, section 3.1).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from wherry.errors import Unauthenticated
from wherry.resources.rules import MAX_ID

ALGORITHM = "HS256"
LEEWAY_SECONDS = 5
"""How long a token is accepted after it has expired, as clocks differ (RFC 7519, section 4.1.4)."""

ISSUE_LEEWAY_SECONDS = 60
"""How far in the future another service that signs tokens may have issued one: its clock may be ahead."""


@dataclass(frozen=True)
class Claims:
    """Whom a token stands for, and when it was issued in Unix time, if it says so."""

    user_id: int
    issued_at: float | None

    def outlived(self, password_changed_at: datetime | None) -> bool:
        """Whether the token is older than the account's password, or may be: it does not say when it was issued."""
        if password_changed_at is None:
            return False
        return self.issued_at is None or self.issued_at < password_changed_at.timestamp()


class Tokens:
    """Tokens under one secret.

    Args:
        secret: at least 32 bytes.
        valid_for: how long a token holds.
    """

    def __init__(self, secret: str, valid_for: timedelta) -> None:
        self._secret = secret
        self._valid_for = valid_for

    def issue(self, user_id: int, *, now: datetime | None = None, password_changed_at: datetime | None = None) -> str:
        """A token for an account.

        Args:
            user_id: of the account.
            now: when the account's owner proved who they are, if that is not this moment.
            password_changed_at: of the account; whole seconds are counted, so this may be ahead of `now` by one.
        """
        issued_at = int((now or datetime.now(UTC)).timestamp())
        if password_changed_at is not None:
            issued_at = max(issued_at, math.ceil(password_changed_at.timestamp()))
        claims = {
            "sub": str(user_id),
            "user": {"id": user_id},
            "iat": issued_at,
            "exp": issued_at + int(self._valid_for.total_seconds()),
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """What a token says.

        Raises:
            Unauthenticated: it was not signed here, has expired, or is no token at all.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                [ALGORITHM],
                # PyJWT lets no number pass as a subject, and has one leeway for both times
                {"require": ["sub", "exp"], "verify_sub": False, "verify_iat": False},
                leeway=LEEWAY_SECONDS,
            )
            subject = str(claims["sub"])
            issued_at = float(claims["iat"]) if "iat" in claims else None
        # a header nested thousands deep exhausts the JSON parser's stack before anything is verified
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise Unauthenticated("the token is not valid") from error
        if issued_at is not None and not issued_at <= time.time() + ISSUE_LEEWAY_SECONDS:  # NaN is neither
            raise Unauthenticated("the token is not valid yet")
        if not (subject.isascii() and subject.isdecimal() and 0 < int(subject[:11]) <= MAX_ID):
            raise Unauthenticated("the token is not valid")
        return Claims(int(subject), issued_at)
