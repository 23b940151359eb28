"""`wherry api`: serves the HTTP API until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Annotated

import uvicorn
from cyclopts import Parameter
from litestar import Litestar

from wherry.app import create_app
from wherry.http.access_log import AccessLog
from wherry.http.protocol import MAX_FILES, BoundedProtocol
from wherry.http.refusals import PacedRefusals
from wherry.local.processes import BACKLOG, follow_parent, listen
from wherry.logs import configure_logs
from wherry.settings import Settings, load_settings
from wherry.tables.declarations import find_declarations
from wherry.tables.registry import require_usable
from wherry.this_process import allow_open_files, collect_garbage_less_often

SHUTDOWN_SECONDS = 5


def api(
    *,
    host: str | None = None,
    port: int | None = None,
    fd: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C. Start as many as you like, on any number of hosts.

    Parameters
    ----------
    host
        Address to listen on. [default: HOST, else 127.0.0.1]
    port
        Port to listen on. [default: PORT, else 3000]
    """
    follow_parent()
    settings = load_settings(host=host, port=port)
    configure_logs(settings)
    sockets = _sockets(settings, fd)
    settings = settings.model_copy(update={"port": sockets[0].getsockname()[1]})  # links contain it
    app = create_app(settings)
    asyncio.run(require_usable(settings.require_direct_url(), find_declarations(settings.tables_file)))
    allow_open_files(MAX_FILES)
    collect_garbage_less_often()
    uvicorn.Server(server_config(app, settings.trusted_proxies)).run(sockets=sockets)


def server_config(app: Litestar, trusted_proxies: Sequence[str] = ()) -> uvicorn.Config:
    """uvicorn's configuration; only these proxies' `X-Forwarded-For` is trusted."""
    return uvicorn.Config(
        AccessLog(PacedRefusals(app)),
        http=BoundedProtocol,
        ws="none",
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )


def _sockets(settings: Settings, fd: int | None) -> list[socket.socket]:
    """The inherited socket, or one on HOST and PORT; and one on MEMVID_EXPORT_BIND_ADDR if it is set."""
    sockets = [listen(settings.host, settings.port) if fd is None else socket.socket(fileno=fd)]
    if settings.memvid_export_bind_addr is not None:
        host, _, port = settings.memvid_export_bind_addr.rpartition(":")
        variable = "MEMVID_EXPORT_BIND_ADDR"
        sockets.append(listen(host.strip("[]"), int(port), setting=variable, option=variable))
    return sockets
