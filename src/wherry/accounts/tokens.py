"""Signs and reads the JWTs (RFC 7519) of accounts.

They are signed with HS256 and have `sub`, `iat`, `exp`, and the id again as `user.id`, where clients of the older
service read it. Other services that know the secret may sign tokens too; these need only `sub`, as a number or its
digits, and `exp`. Tokens with any other algorithm, or none, are rejected: the token does not get to choose it (RFC
8725, section 3.1).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import jwt

from wherry.errors import Unauthenticated
from wherry.tables.builtin.rules import MAX_ID
from wherry.texts import whole_number

ALGORITHM = "HS256"
LEEWAY_SECONDS = 5
"""How long a token is accepted after it has expired, because clocks differ (RFC 7519, section 4.1.4)."""

ISSUE_LEEWAY_SECONDS = 60
"""How far in the future a token's time of issue may be: the clock of another service that signs may be ahead."""

VERIFIED_TOKENS = 1024
"""How many verified tokens are remembered: verifying one takes a tenth of a small request's time. Their times are
compared with the clock on every use."""


@dataclass(frozen=True)
class Claims:
    """The account that a token is for, and its times: when it was issued, if it says so, and when it is valid."""

    user_id: int
    issued_at: float | None
    expires_at: int
    not_before: int

    def require_current(self) -> None:
        """Raise `Unauthenticated` if the token has expired, or is not valid yet."""
        now = time.time()
        if not self.not_before - LEEWAY_SECONDS <= now < self.expires_at + LEEWAY_SECONDS:
            raise Unauthenticated("the token is not valid")
        if self.issued_at is not None and not self.issued_at <= now + ISSUE_LEEWAY_SECONDS:  # also rejects NaN
            raise Unauthenticated("the token is not valid yet")

    def outlived(self, password_changed_at: datetime | None) -> bool:
        """Whether the token is older than the account's password, or does not say when it was issued."""
        if password_changed_at is None:
            return False
        return self.issued_at is None or self.issued_at < password_changed_at.timestamp()


@dataclass(frozen=True)
class Tokens:
    """Tokens that are signed with one secret of at least 32 bytes."""

    secret: str = field(repr=False)
    valid_for: timedelta

    def issue(self, user_id: int, *, now: datetime | None = None, password_changed_at: datetime | None = None) -> str:
        """A token for an account.

        Args:
            user_id: of the account.
            now: when the owner was authenticated; by default the current time.
            password_changed_at: of the account. Tokens have whole seconds, so `iat` is rounded up to be no earlier.
        """
        issued_at = int((now or datetime.now(UTC)).timestamp())
        if password_changed_at is not None:
            issued_at = max(issued_at, math.ceil(password_changed_at.timestamp()))
        claims = {
            "sub": str(user_id),
            "user": {"id": user_id},
            "iat": issued_at,
            "exp": issued_at + int(self.valid_for.total_seconds()),
        }
        return jwt.encode(claims, self.secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """The claims of a valid token.

        Raises:
            Unauthenticated: it is not a token, has expired, or was not signed with the secret.
        """
        try:
            claims = _verified(token, self.secret)
        # a header that is nested thousands deep exhausts the JSON parser's stack before the token is verified
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated("the token is not valid") from error
        claims.require_current()
        return claims


@lru_cache(maxsize=VERIFIED_TOKENS)
def _verified(token: str, secret: str) -> Claims:
    """The claims of a token that was signed with the secret, whether or not it has expired."""
    claims = jwt.decode(
        token,
        secret,
        [ALGORITHM],
        # PyJWT rejects a number as the subject
        {"require": ["sub", "exp"], "verify_sub": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    user_id = whole_number(str(claims["sub"]))
    if user_id is None or not 0 < user_id <= MAX_ID:
        raise jwt.InvalidTokenError("sub is not the id of an account")
    issued_at = float(claims["iat"]) if "iat" in claims else None
    return Claims(user_id, issued_at, expires_at=int(claims["exp"]), not_before=int(claims.get("nbf", 0)))
