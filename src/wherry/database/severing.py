"""Ends waits for a database that does not respond.

Cancelling a statement is not enough: psycopg then asks the server to cancel it, and waits up to ten seconds for an
answer. If the socket is shut down instead, the statement fails at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from psycopg import sql

from wherry.database.pools import Connection


def sever(connection: Connection) -> None:
    """Shut the connection's socket down: everything that waits for it raises `OperationalError` at once."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as link, suppress(OSError):  # the peer may be faster
        link.shutdown(socket.SHUT_RDWR)


async def execute_or_sever(connection: Connection, statement: sql.SQL | sql.Composed, *, seconds: float) -> None:
    """Execute a statement. Sever the connection if there is no response in time, or if this task is cancelled.

    Raises:
        OperationalError: there was no response in time, or the connection is lost.
    """
    executing = asyncio.create_task(connection.execute(statement))
    try:
        await asyncio.wait({executing}, timeout=seconds)
    finally:
        if not executing.done():
            sever(connection)
            await asyncio.wait({executing})
            executing.exception()  # marked as retrieved, for the case that this task was cancelled
    executing.result()
