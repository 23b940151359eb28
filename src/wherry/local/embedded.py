"""An embedded PostgreSQL server for one machine: no container, no system service, no root.

    with EmbeddedPostgres(Path("data/postgres")) as server:
        psycopg.connect(server.url)

Committed data survives `kill -9` of the server or its owner, and a crash of the machine: fsync stays on. The server
listens on 127.0.0.1 only and needs no password, so every user of this machine can connect. If that is not acceptable,
run your own server and set DATABASE_URL.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from wherry.errors import Unavailable
from wherry.local.binaries import Binaries, find_binaries
from wherry.local.cluster import beside, end_strays, locked, prepare
from wherry.local.server_account import SystemAccount, account_for, require_reachable, runnable
from wherry.local.server_process import ServerProcess

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; after a crash during a bulk load, recovery replays up to max_wal_size
RUNNING_SECONDS = 10.0
"""How long to wait for another process's server, which may still be starting."""

POLL_SECONDS = 0.05
LOG_LIMIT = 8 << 20  # bytes; when a server starts, a longer log is moved to D.log.old
PORT_ATTEMPTS = 5

OPTIONS: Mapping[str, str] = {
    "unix_socket_directories": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "lc_messages": "C",  # readiness is read from the log
    "log_timezone": "UTC",
    "timezone": "UTC",
    "max_connections": "200",
    # for bulk loads on small machines: memory for hot pages, and few checkpoints, as full-page images cost the most
    "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # not in every build, and slows down short queries
}


class EmbeddedPostgres:
    """A server on `data_dir`, running from `start` to `stop`, or for the duration of a `with` block.

    Args:
        data_dir: created if missing, with its parent, which also gets the lock file and the log.
        binaries: PostgreSQL's programs; found on this machine if not given.
        options: server settings by name; they override `OPTIONS`.

    Methods block. They may be called from any thread, but only one at a time.
    """

    def __init__(
        self, data_dir: Path, *, binaries: Binaries | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.log_file = beside(self.data_dir, ".log")
        self.binaries = binaries or find_binaries()
        self._options = {**OPTIONS, **(options or {})}
        self._port = 0
        self._account: SystemAccount | None = None
        self._process: ServerProcess | None = None
        self._locks = ExitStack()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the database `postgres`, which always exists. A restart does not change it."""
        return _url(self._port)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is running."""
        return self._process is not None and self._process.is_running

    @property
    def is_serving(self) -> bool:
        """Whether its postmaster is running; false as soon as it has crashed."""
        return self._process is not None and self._process.is_serving

    @property
    def log_end(self) -> str:
        """The last lines of the server's log."""
        return self._process.log_end if self._process else ""

    def start(self) -> None:
        """Create the data directory if it is missing, and start the server on a free port.

        Raises:
            Misconfigured: the data directory cannot be used; the message says what to change.
            Unavailable: another process uses the data directory, or the server did not start.
        """
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            account = account_for(self.data_dir)
            require_reachable(self.data_dir, account)
            locks.enter_context(locked(self.data_dir))
            self.binaries = runnable(self.binaries, account, self.data_dir.parent)
            self._keep_log_small()
            prepare(self.data_dir, self.binaries, account)
            self._account = account
            self._process = self._start_on_free_port()
            self._locks = locks.pop_all()
        logger.info("%s accepts connections on %s:%d, process %d", self.binaries, HOST, self._port, self.pid)

    def stop(self) -> None:
        """Shut the server down cleanly and release the data directory. Does nothing if it was not started."""
        try:
            if self._process is not None:
                self._process.stop()
                self._process = None
        finally:
            self._locks.close()

    def restart(self, *, immediate: bool = False) -> None:
        """Stop the server, if it still runs, and start it on the same port. `immediate` stops it as a crash would.

        Raises:
            Unavailable: it was never started, or did not start again.
        """
        process = self._running()
        if not process.is_serving:
            end_strays(self.data_dir)
        process.stop(immediate=immediate)
        self._keep_log_small()
        self._process = self._launch(self._port)

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise Unavailable("the embedded PostgreSQL is not running")
        return self._process

    def _keep_log_small(self) -> None:
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
            self.log_file.replace(beside(self.data_dir, ".log.old"))

    def _start_on_free_port(self) -> ServerProcess:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            with socket.create_server((HOST, 0)) as probe:
                self._port = probe.getsockname()[1]
            try:
                return self._launch(self._port)
            except Unavailable as fault:
                # another program took the port before the server could bind it
                if "could not bind" not in fault.detail or attempt == PORT_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _launch(self, port: int) -> ServerProcess:
        assert self._account is not None
        end_strays(self.data_dir)
        command = [self.binaries.program("postgres"), "-D", str(self.data_dir), "-h", HOST, "-p", str(port)]
        for name, value in self._options.items():
            command += ["-c", f"{name}={value}"]
        return ServerProcess.start(command, self._account, self.log_file, START_TIMEOUT)


def url_of_running(data_dir: Path, timeout: float = RUNNING_SECONDS) -> str:
    """The URL of the server that another process on this machine runs on `data_dir`.

    Raises:
        Unavailable: it does not accept connections in time, because it is starting or stopping.
    """
    deadline = time.monotonic() + timeout
    while (port := _port_if_ready(data_dir)) is None:
        if time.monotonic() >= deadline:
            raise Unavailable(f"the embedded PostgreSQL in {data_dir} is starting or stopping: try again")
        time.sleep(POLL_SECONDS)
    return _url(port)


def _port_if_ready(data_dir: Path) -> int | None:
    """The server's port if it is ready, read from `postmaster.pid` (lines 4 and 8), as pg_ctl does."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    return int(lines[3]) if len(lines) >= 8 and lines[7].strip() == "ready" else None


def _url(port: int) -> str:
    return f"postgresql://postgres@{HOST}:{port}/postgres"
