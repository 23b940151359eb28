"""Structured logs to standard error: one JSON object per line, or coloured text if `LOG_PRETTY` is true."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TextIO

import structlog

from wherry.settings import Settings

# The older service's names of levels (pino's), and "silent" for no logs at all.
_LEVELS = {"trace": logging.DEBUG, "warn": logging.WARNING, "fatal": logging.CRITICAL, "silent": logging.CRITICAL + 10}


def current_request_id() -> str | None:
    """The id of the HTTP request being served, or None outside of requests."""
    found = structlog.contextvars.get_contextvars().get("requestId")
    return None if found is None else str(found)


def configure_logs(settings: Settings) -> None:
    """Send the logs of structlog and of the standard library to standard error, from `LOG_LEVEL` up.

    structlog writes its lines itself: through the standard library, they would take three times as long.
    """
    level = _LEVELS.get(settings.log_level) or logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render = _render(settings)
    foreign = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=foreign))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("procrastinate", "httpx", "httpcore", "psycopg.pool"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=_NamedLogger,
        wrapper_class=structlog.make_filtering_bound_logger(min(level, logging.CRITICAL)),
        cache_logger_on_first_use=True,
    )


class _NamedLogger(structlog.WriteLogger):
    """Writes lines to standard error, and knows its name."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name


def _render(settings: Settings) -> list[structlog.typing.Processor]:
    if settings.log_pretty:
        # The default formatter prints local variables, which may be passwords and keys.
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)
        return [_escape_values, renderer]
    encode = json.JSONEncoder(default=repr).encode
    return [structlog.processors.format_exc_info, lambda _logger, _method, event: encode(event)]


def _escape_values(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape values, so that clients' text can neither control the terminal nor fake a log line."""
    return {name: escaped(value.rstrip("\n")) if isinstance(value, str) else value for name, value in event.items()}


def _write_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    traceback = io.StringIO()
    structlog.dev.plain_traceback(traceback, exc_info)
    out.write("\n".join(map(escaped, traceback.getvalue().split("\n"))))


def escaped(text: str) -> str:
    """The text on one line, with unprintable characters escaped (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
