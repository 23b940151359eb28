"""One-time links for setting a password.

There are two kinds. A reset link is mailed to a user who forgot the password, and is valid as long as the account has
that address. An onboarding link is for an account without a password, and is valid until it has one. Both expire, and
work once. The token is 256 random bits; the database stores only its SHA-256, so a leaked copy of the database contains
no usable links.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog

from wherry.accounts import limits, repository
from wherry.accounts.api_tokens import secret_hash
from wherry.accounts.limits import RatePolicy, Usage, network_hash
from wherry.accounts.mail import Mailer
from wherry.accounts.models import Account, Link, ResetRequest, Session
from wherry.accounts.passwords import Passwords
from wherry.accounts.tokens import Tokens
from wherry.accounts.validation import check_password, normalize_email, refuse_blank
from wherry.database.pools import Connection, Pool, brief_transaction
from wherry.database.queries import fetch_one, load
from wherry.errors import LinkExpired, PasswordAlreadySet, UserNotFound

logger = structlog.get_logger(__name__)

RESET_VALID_FOR = timedelta(hours=1)
ONBOARDING_VALID_FOR = timedelta(days=3)
PAGE = "/set-password"

RESET_BY_ADDRESS = RatePolicy("reset-address", 20, 300)
RESET_BY_ACCOUNT = RatePolicy("reset-account", 5, 3600)
SET_BY_ADDRESS = RatePolicy("password-address", 20, 300)
SET_BY_ACCOUNT = RatePolicy("password-account", 10, 3600)

SUBJECT = "Set your password"
TEXT = """Somebody, probably you, asked to set a new password for your account.

Open this link within an hour to choose one; it works once:

{url}

If it was not you, do nothing: your password stays as it is.
"""


@dataclass(frozen=True)
class PasswordLinks:
    """The password links of one database."""

    pool: Pool
    passwords: Passwords
    tokens: Tokens
    base_url: str
    """The public URL of this service; never taken from a request, whose Host header can be forged."""
    mailer: Mailer | None
    """Without it, no reset links are created or sent."""

    async def request_reset(self, email: str | None, address: str) -> ResetRequest:
        """Count a request for a reset link. Call `deliver` with it after the response has been sent.

        Nothing here depends on whether the account exists, so that the time it takes reveals nothing.

        Raises:
            Invalid: the e-mail is blank.
            LimitReached: too many requests from this address or for this e-mail.
        """
        refuse_blank(email=email)
        normal = normalize_email(email or "")
        async with self.pool.connection() as connection:
            by_address = await limits.take(connection, RESET_BY_ADDRESS, network_hash(address).hex())
            by_account = await limits.take(connection, RESET_BY_ACCOUNT, secret_hash(normal).hex())
        return ResetRequest(normal, (by_address, by_account))

    async def deliver(self, request: ResetRequest) -> None:
        """Create a link for the account with this e-mail, if there is one, and mail it.

        Without a mail server, the log says what to do, but not whether there is such an account.

        Raises:
            Unavailable: the link could not be created or mailed.
        """
        if self.mailer is None:
            logger.warning(
                "a password reset was requested, but no mail can be sent: set SMTP_URL, "
                "or run `wherry users reset-link` for the account"
            )
            return
        if "\0" in request.email:
            return
        async with brief_transaction(self.pool) as connection:
            link = await reset_link(connection, self.base_url, request.email)
        if link is not None:
            await self.mailer.send(request.email, SUBJECT, TEXT.format(url=link.url))

    async def onboard(self, user_id: int) -> Link:
        """A link for an account that has no password yet, for an administrator to pass on.

        Raises:
            UserNotFound: no such active account.
            PasswordAlreadySet: it has a password.
        """
        async with brief_transaction(self.pool) as connection:
            link = await onboarding_link(connection, self.base_url, user_id)
            account = await repository.get(connection, user_id) if link is None else None
        if link is not None:
            return link
        if account is None or not account.active:
            raise UserNotFound("no such user")
        raise PasswordAlreadySet("the account already has a password")

    async def set_password(self, token: str | None, password: str | None, address: str) -> Session:
        """Redeem a link: set its account's password and void all of the account's links.

        Raises:
            Invalid: the token or the password is blank, or the password too short or too long.
            LinkExpired: the link was used, has expired, or does not exist.
            LimitReached: too many attempts.
        """
        refuse_blank(token=token, password=password)
        chosen = check_password(password)
        token_hash = secret_hash(token or "")
        async with self.pool.connection() as connection:
            by_address = await limits.take(connection, SET_BY_ADDRESS, network_hash(address).hex())
            owner = await repository.link_owner(connection, token_hash)
            if owner is None:
                raise _gone(by_address)
            by_account = await limits.take(connection, SET_BY_ACCOUNT, str(owner))
        account = await self._redeem(token_hash, owner, await self.passwords.hash(chosen))
        session_token = self.tokens.issue(account.id, password_changed_at=account.password_changed_at)
        return Session(account, session_token, (by_address, by_account))

    async def _redeem(self, token_hash: bytes, owner: int, password_hash: str) -> Account:
        async with brief_transaction(self.pool) as connection:
            await repository.lock(connection, owner)
            # checked again, because the link may have been used while the password was hashed
            still_valid = await repository.link_owner(connection, token_hash) is not None
            account = await repository.set_password(connection, owner, password_hash) if still_valid else None
            if account is None:
                raise _gone()
            await repository.void_links(connection, owner)
        return account


async def reset_link(connection: Connection, base_url: str, email: str) -> Link | None:
    """A new link for the active account with this e-mail, or None if there is no such account."""
    return await _new_link(connection, base_url, "create_reset_link", email=email, valid_for=RESET_VALID_FOR)


async def onboarding_link(connection: Connection, base_url: str, user_id: int) -> Link | None:
    """A new link for an active account, or None if there is no such account or it already has a password."""
    return await _new_link(
        connection, base_url, "create_onboarding_link", user_id=user_id, valid_for=ONBOARDING_VALID_FOR
    )


async def _new_link(connection: Connection, base_url: str, query: str, **values: object) -> Link | None:
    token = secrets.token_urlsafe(32)
    row = await fetch_one(connection, load("accounts")[query], {"token_hash": secret_hash(token), **values})
    # after the '#', so that no server or proxy ever logs the token
    return None if row is None else Link(f"{base_url.rstrip('/')}{PAGE}#token={token}", row["expires_at"])


def _gone(*usages: Usage) -> LinkExpired:
    detail = "the link was already used or has expired; request a new one"
    return LinkExpired(detail, field="token", headers=limits.headers(usages))
