"""A PgBouncer in transaction mode, in front of the tests' PostgreSQL, and unusual defaults for a database.

PgBouncer has so few sessions that its clients have to share them, and default settings otherwise.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from wherry.local.embedded import HOST
from wherry.local.server_account import SystemAccount, account_for, temporary_folder

SESSIONS = 3
OPTIONS = {
    "listen_addr": HOST,
    "unix_socket_dir": "",
    "auth_type": "any",
    "pool_mode": "transaction",
    "default_pool_size": str(SESSIONS),
}


DEFAULTS = {
    "TimeZone": "America/New_York",
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "idle_in_transaction_session_timeout": "1h",
}
"""Unlike those that wherry's queries rely on."""


def change_defaults(url: str) -> None:
    """Give new sessions of a database `DEFAULTS`."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    with psycopg.connect(url, autocommit=True) as connection:
        for setting, value in DEFAULTS.items():
            connection.execute(sql.SQL("alter database {} set {} = {}").format(name, sql.Identifier(setting), value))


@contextmanager
def pgbouncer(server_url: str, **settings: str) -> Iterator[str]:
    """Start one for every database of a server. Yields the URL of the given database through it.

    Args:
        server_url: of a database on the server.
        settings: settings of PgBouncer.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    with temporary_folder("wherry-pgbouncer-") as folder:
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        account = account_for(folder / "none")  # PgBouncer does not run as root, either
        configuration = _written(folder, account, server_url, {"listen_port": str(port), **settings})
        process = subprocess.Popen(
            [program, str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **account.popen_arguments(),  # type: ignore[call-overload]
        )
        with process:
            try:
                said = b""
                for line in process.stderr:
                    said += line
                    if b"process up" in line:
                        break
                else:
                    raise AssertionError(f"PgBouncer did not start:\n{said.decode()}")
                threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would block on a full pipe
                parts = urlsplit(server_url)
                yield urlunsplit(parts._replace(netloc=f"{parts.username}@{HOST}:{port}"))
            finally:
                process.terminate()


def _written(folder: Path, account: SystemAccount, server_url: str, settings: dict[str, str]) -> Path:
    server = conninfo_to_dict(server_url)
    login = " ".join(f"{name}={server[name]}" for name in ("host", "port", "user", "password") if name in server)
    path = folder / "pgbouncer.ini"
    lines = [f"{name} = {value}" for name, value in {**OPTIONS, **settings}.items()]
    path.write_text("\n".join(["[databases]", f"* = {login}", "[pgbouncer]", *lines, ""]))
    path.chmod(0o600)
    account.own(path)
    return path
