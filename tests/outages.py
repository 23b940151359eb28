"""Ways in which a database can be away, for as long as a context lasts. It is back on the same port afterwards."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.local.embedded import EmbeddedPostgres


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """Suspend the server and its sessions, each of which is a process group of its own. Linux: they are in /proc."""
    sessions = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    processes = [server.pid, *map(int, sessions)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@contextmanager
def shut_down(server: EmbeddedPostgres) -> Iterator[None]:
    """Shut the server down: connections are cut, and new ones refused."""
    descriptor = os.pidfd_open(server.pid)
    try:
        os.kill(server.pid, signal.SIGINT)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(30_000)
    finally:
        os.close(descriptor)
    try:
        yield
    finally:
        server.restart()
