"""Checks the static key of the capsule routes, and limits how often an address can guess it.

Only failures count. An address that has used up its guesses is refused even with the right key, which could be just
another guess. Other addresses are not affected.
"""

from __future__ import annotations

import hashlib
import hmac

import structlog

from wherry.accounts import limits
from wherry.accounts.limits import RatePolicy, network_hash
from wherry.database.pools import Pool
from wherry.errors import Unauthenticated

GUESSES_BY_ADDRESS = RatePolicy("capsule-key-address", 20, 300)
MIN_KEY_CHARACTERS = 16

logger = structlog.get_logger(__name__)


async def require_key(pool: Pool, expected: str, given: bytes, address: str) -> None:
    """Check the key that a client sent.

    Raises:
        Unauthenticated: the key is wrong.
        LimitReached: too many wrong keys from this address.
    """
    subject = network_hash(address).hex()
    # digests all have the same length, so that the time this takes does not reveal the length of the key
    fits = hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected.encode()).digest())
    async with pool.connection() as connection:
        if fits:
            await limits.require_unused(connection, GUESSES_BY_ADDRESS, subject)
            return
        await limits.take(connection, GUESSES_BY_ADDRESS, subject)
    raise Unauthenticated("the API key is not valid")


def warn_if_short(key: str | None) -> None:
    """Log a warning if the key is short enough to be guessed."""
    if key is not None and len(key) < MIN_KEY_CHARACTERS:
        logger.warning(
            f"MEMVID_EXPORT_API_KEY has fewer than {MIN_KEY_CHARACTERS} characters and can be guessed: "
            "set a longer one, such as the output of `openssl rand -hex 32`"
        )
