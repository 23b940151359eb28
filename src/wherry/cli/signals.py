"""Ctrl-C, SIGTERM and a terminal that is closed, as an orderly end."""

from __future__ import annotations

import asyncio
import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cancel_on_signal() -> None:
    """Let the first of these signals cancel the current task, so that everything it opened is closed in order."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    # What is ignored stays so: `nohup` asks for it.
    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        for number in heard:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in heard:
        loop.add_signal_handler(number, stop)
