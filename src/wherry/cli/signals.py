"""Ctrl-C and SIGTERM, as an orderly end."""

from __future__ import annotations

import asyncio
import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cancel_on_signal() -> None:
    """Let the first SIGINT or SIGTERM cancel the current task, so that everything it opened is closed in order."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
