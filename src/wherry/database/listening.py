"""LISTEN on a connection of its own, which is replaced within five seconds if it breaks or falls silent.

A connection whose packets are dropped looks like one on which nothing happens, so the server is asked regularly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from wherry.database.pools import basic_options
from wherry.database.severing import execute_or_sever

PROBE_SECONDS = 1.5
"""How long the connection may be silent before the server is probed."""

RESPONSE_SECONDS = 1.5
CONNECT_SECONDS = 2
RECONNECT_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Listener:
    """Receives notifications until it is cancelled.

    Args:
        conninfo: URL of the database itself, because LISTEN does not work through a transaction pooler.
        channels: what to listen to.
        name: shown as `application_name` in `pg_stat_activity`.
        on_payload: called with the channel and the payload of every notification.
        on_connected: called once it listens, and after every reconnect, before which notifications may have been lost.
    """

    def __init__(
        self,
        conninfo: str,
        channels: Iterable[str],
        *,
        name: str,
        on_payload: Callable[[str, str], Awaitable[None]],
        on_connected: Callable[[], Awaitable[None]],
    ) -> None:
        self._conninfo = conninfo
        self._options: dict[str, Any] = {**basic_options(name), "connect_timeout": CONNECT_SECONDS}
        self._listen = sql.SQL("; ").join(sql.SQL("listen {}").format(sql.Identifier(channel)) for channel in channels)
        self._on_payload = on_payload
        self._on_connected = on_connected

    async def run(self) -> None:
        """Listen, and reconnect whatever happens. Only a cancel ends this."""
        while True:
            try:
                await self._listen_once()
            except psycopg.Error as error:
                log.warning("notifications lost their connection", error=str(error))
            except Exception:
                log.exception("notifications could not be handled")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        """Listen until the connection is lost, which raises an error."""
        connection = await AsyncConnection.connect(self._conninfo, autocommit=True, **self._options)
        async with connection:
            await execute_or_sever(connection, self._listen, seconds=RESPONSE_SECONDS)
            await self._on_connected()
            while True:
                async for notification in connection.notifies(timeout=PROBE_SECONDS):
                    await self._on_payload(notification.channel, notification.payload)
                await execute_or_sever(connection, sql.SQL("select 1"), seconds=RESPONSE_SECONDS)
