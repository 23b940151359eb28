"""Sends mail by SMTP, in a few dedicated threads, so that a mail server that hangs delays nothing else.

`SMTP_URL` has one of these forms:

    smtp://host[:25]                     plain
    smtp://user:password@host?starttls   encrypted after the greeting, port 587 by default
    smtps://user:password@host[:465]     encrypted from the start
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

from wherry.errors import Misconfigured, Unavailable

TIMEOUT_SECONDS = 15
THREADS = 2
MAX_WAITING = 50
"""How many mails may wait for a thread; more are dropped."""


@dataclass(frozen=True)
class Mailer:
    """An SMTP server, and the sender's address."""

    host: str
    port: int
    sender: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    encrypted: bool = False
    starttls: bool = False
    _outbox: _Outbox = field(default_factory=lambda: _Outbox(), init=False, repr=False, compare=False)

    @classmethod
    def from_url(cls, url: str, sender: str) -> Mailer:
        """The server at `SMTP_URL`.

        Raises:
            Misconfigured: the URL is invalid; the message does not repeat it, because it may contain a password.
        """
        try:
            parts = urlsplit(url)
            host, port, query = parts.hostname, parts.port, parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            host = None
        if not host or parts.scheme not in ("smtp", "smtps"):
            raise Misconfigured("SMTP_URL must be a URL such as smtp://user:password@host:587?starttls or smtps://host")
        encrypted = parts.scheme == "smtps"
        starttls = query.get("starttls", ["false"])[-1].lower() not in ("false", "0", "no")
        return cls(
            host=host,
            port=port or (465 if encrypted else 587 if starttls else 25),
            sender=sender,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            encrypted=encrypted,
            starttls=starttls and not encrypted,
        )

    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand a message to the server.

        Raises:
            Unavailable: the server does not respond or rejects the message, or too many mails are waiting.
        """
        try:
            message = EmailMessage()
            message["From"] = self.sender
            message["To"] = to
            message["Subject"] = subject
            message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents out-of-office replies
            message.set_content(text)
            await self._outbox.run(lambda: self._deliver(message))
        # ValueError: the address is not valid in a message header
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise Unavailable("the mail could not be sent") from error

    def close(self) -> None:
        """Drop the mails that are waiting."""
        self._outbox.close()

    def _deliver(self, message: EmailMessage) -> None:
        with self._connect() as server:
            if self.starttls:
                server.starttls(context=ssl.create_default_context())
            if self.username is not None:
                server.login(self.username, self.password or "")
            server.send_message(message)

    def _connect(self) -> smtplib.SMTP:
        if self.encrypted:
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_SECONDS, context=context)
        return smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)


class _Outbox:
    """A few threads, and the mails that are waiting for one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mail")
        self._in_hand = 0

    async def run(self, work: Callable[[], None]) -> None:
        if self._in_hand >= THREADS + MAX_WAITING:
            raise Unavailable("too many mails are waiting to be sent")
        self._in_hand += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_hand -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
