"""An orderly end on Ctrl-C, on SIGTERM, and when the terminal is closed."""

from __future__ import annotations

import asyncio
import signal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cancel_on_signal() -> None:
    """Cancel the current task on the first of these signals, so that everything it opened is closed in order."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    # A signal that is ignored stays ignored: `nohup` relies on that.
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        for number in handled:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in handled:
        loop.add_signal_handler(number, stop)
