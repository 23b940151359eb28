"""A mail server that keeps what it is given (RFC 5321, as much of it as one client needs).

In: connections of an SMTP client. Out: the messages, as they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class MailServer:
    """Listens on a free port of 127.0.0.1; `refuse` makes it take no message."""

    def __init__(self) -> None:
        self.port = 0
        self.refuse = False
        self.arrived: asyncio.Queue[EmailMessage] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 tests\r\n")
        while line := await reader.readline():
            command = line[:4].upper()
            if command == b"DATA" and not self.refuse:
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.arrived.put_nowait(message_from_bytes(content[:-3], _class=EmailMessage, policy=policy.SMTP))
            if command == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            writer.write(b"554 refused\r\n" if command == b"DATA" and self.refuse else b"250 fine\r\n")
        writer.close()


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """A running server."""
    keeper = MailServer()
    async with await asyncio.start_server(keeper.serve, "127.0.0.1", 0) as server:
        keeper.port = server.sockets[0].getsockname()[1]
        yield keeper
