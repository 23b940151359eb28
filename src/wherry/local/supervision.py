"""Keeps an embedded server running: restarts it after a crash, on the same port.

A server that was killed, or that panicked because the disk was full, recovers when it is restarted. The waits between
attempts grow, so that the server recovers even if it takes somebody a few minutes to free space on the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import NoReturn

import structlog

from wherry.errors import Unavailable
from wherry.local.embedded import EmbeddedPostgres
from wherry.waiting import beside_the_loop

WAITS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 9)
"""Seconds before each attempt; about five minutes in total."""

STABLE_SECONDS = 60.0
"""If a server exits sooner than this after a restart, the restart counts as failed."""

log = structlog.get_logger(__name__)


async def keep_serving(server: EmbeddedPostgres, serving: asyncio.Event, *, waits: Sequence[float] = WAITS) -> NoReturn:
    """Restart a server whenever it exits. Cancelling this does not stop the server.

    Args:
        server: already running.
        serving: set while the server accepts connections.
        waits: seconds before each attempt; after the last, it gives up.

    Raises:
        Unavailable: every attempt failed; the message contains the end of the server's log.
    """
    loop = asyncio.get_running_loop()
    failures, reason = 0, ""
    while True:
        serving.set()
        started = loop.time()
        await _wait_for_exit(server)
        serving.clear()
        if loop.time() - started >= STABLE_SECONDS:
            failures = 0
        reason = f"it exited unexpectedly; the end of {server.log_file}:\n{server.log_end}"
        log.error("PostgreSQL exited unexpectedly and is being restarted", log=str(server.log_file))
        while reason:
            if failures == len(waits):
                raise Unavailable(f"PostgreSQL keeps exiting: {reason}")
            await asyncio.sleep(waits[failures])
            failures += 1
            reason = await _restart(server)


async def _wait_for_exit(server: EmbeddedPostgres) -> None:
    """Wait until the postmaster has exited."""
    if not server.is_serving:
        return
    exited = asyncio.Event()
    descriptor = os.pidfd_open(server.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _restart(server: EmbeddedPostgres) -> str:
    """Restart the server, and return why that failed, or an empty string. A cancel waits for the end of the restart."""
    try:
        await beside_the_loop(server.restart)
    except (Unavailable, OSError) as error:
        reason = error.detail if isinstance(error, Unavailable) else str(error)
        log.warning("PostgreSQL did not start", reason=reason.strip().rpartition("\n")[2])
        return reason
    log.info("PostgreSQL is running again")
    return ""
