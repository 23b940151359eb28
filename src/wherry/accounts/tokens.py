"""Signs and reads the tokens that stand for an account.

In: an account's id. Out: a JWT (RFC 7519), HS256, with `sub`, `iat`, `exp`, and the id once more as `user.id`, where
clients of the older service read it. Another service that knows the secret may sign too: only `sub`, as a number or its
digits, and `exp` are needed. A token under any other algorithm, or none, is refused: the algorithm is ours to choose,
never the token's (RFC 8725, section 3.1).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt

from wherry.errors import Unauthenticated
from wherry.resources.rules import MAX_ID

ALGORITHM = "HS256"
LEEWAY_SECONDS = 5
"""By how much the clocks of those who sign and those who read may differ (RFC 7519, section 4.1.4)."""


class Tokens:
    """Tokens under one secret.

    Args:
        secret: at least 32 bytes.
        valid_for: how long a token holds.
    """

    def __init__(self, secret: str, valid_for: timedelta) -> None:
        self._secret = secret
        self._valid_for = valid_for

    def issue(self, user_id: int, *, now: datetime | None = None) -> str:
        """A token for an account; `now` is given by tests only."""
        issued_at = now or datetime.now(UTC)
        claims = {
            "sub": str(user_id),
            "user": {"id": user_id},
            "iat": issued_at,
            "exp": issued_at + self._valid_for,
        }
        return jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> int:
        """The id of the account that a token stands for.

        Raises:
            Unauthenticated: it was not signed here, is past its time, or is no token at all.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                [ALGORITHM],
                {"require": ["sub", "exp"], "verify_sub": False},  # PyJWT's own check lets no number pass
                leeway=LEEWAY_SECONDS,
            )
            subject = str(claims["sub"])
        # a header nested thousands deep exhausts the JSON parser's stack before anything is verified
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise Unauthenticated("the token is not valid") from error
        if not (subject.isascii() and subject.isdecimal() and 0 < int(subject[:11]) <= MAX_ID):
            raise Unauthenticated("the token is not valid")
        return int(subject)
