"""The types of settings: each validates the text of a variable, and says what it must be if it is invalid."""

from __future__ import annotations

import re
from base64 import b64decode
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal, get_args
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

MIN_SECRET_BYTES = 32
"""HS256 requires a key at least as long as its digest (RFC 7518, section 3.2)."""

WEBHOOK_SECRET_PREFIX = "whsec_"
WEBHOOK_SECRET_BYTES = range(24, 65)
"""The form and the possible lengths of a secret of Standard Webhooks."""

WELL_KNOWN_SECRETS = frozenset({"superSecret", "secret", "change-me", "changeme", "your-secret-key", "your_jwt_secret"})
PRISMA_PARAMETERS = frozenset(
    {"schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size", "sslaccept"}
)
BASE_URL = re.compile(r"https?://[^\s/?#:@][^\s/?#]*(/[^\s?#]*)?", re.IGNORECASE)
ORIGIN = re.compile(r"https?://[^\s/?#:@]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")

MAX_DAYS = 36_500
"""A hundred years, so that a period that starts now ends on a date that both Python and PostgreSQL support."""

Role = Literal["admin", "user"]


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _strong(secret: SecretStr) -> SecretStr:
    plain = secret.get_secret_value()
    if plain in WELL_KNOWN_SECRETS or len(plain.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes and not a well-known default")
    return secret


def _postgres_url(url: str) -> str:
    """Remove the parameters that only Prisma understands, so that the older service's setting keeps working."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    parts = urlsplit(url)
    if dict(parse_qsl(parts.query, keep_blank_values=True)).get("schema", "public") != "public":
        raise ValueError("must not name a schema other than public")
    # The other parameters are not encoded again: to libpq, unlike in HTML forms, a plus sign is not a space.
    kept = [pair for pair in parts.query.split("&") if pair.partition("=")[0] not in PRISMA_PARAMETERS]
    return urlunsplit(parts._replace(query="&".join(kept)))


def _unquoted(value: object) -> object:
    """Remove quotes, which `docker run --env-file` leaves in place."""
    return value.strip().strip("\"'") if isinstance(value, str) else value


def _bind_address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not (separator and host and port.isdecimal() and int(port) < 65536):
        raise ValueError("must be an address of the form host:port")
    return value


def _base_url(url: str) -> str:
    if not BASE_URL.fullmatch(url):
        raise ValueError("must be a URL such as https://host/path, without a query")
    return url.rstrip("/")


def key_of_webhook_secret(secret: str) -> bytes:
    """The key that a webhook secret stands for.

    Raises:
        ValueError: it is not a webhook secret.
    """
    try:
        key = b64decode(secret.removeprefix(WEBHOOK_SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(WEBHOOK_SECRET_PREFIX) or len(key) not in WEBHOOK_SECRET_BYTES:
        first, last = WEBHOOK_SECRET_BYTES[0], WEBHOOK_SECRET_BYTES[-1]
        raise ValueError(f"must be {WEBHOOK_SECRET_PREFIX} followed by {first} to {last} bytes in base64")
    return key


def _webhook_secret(secret: SecretStr) -> SecretStr:
    key_of_webhook_secret(secret.get_secret_value())
    return secret


def _hosts_or_any(names: tuple[str, ...]) -> tuple[str, ...]:
    """An empty list allows any host; other programs call that `*`."""
    return () if names == ("*",) else _hosts(names)


def _hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not (HOST_NAME.fullmatch(name) or _is_address(name)):
            raise ValueError(f"must be bare host names (their subdomains are included) or IP addresses, not {name}")
    return names


def _networks(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            ip_network(name, strict=False)
        except ValueError:
            raise ValueError(f"must be IP addresses or networks such as 10.0.0.0/8, not {name}") from None
    return names


def _origins(names: tuple[str, ...]) -> tuple[str, ...]:
    """Origins as browsers send them: in lower case, without a path (RFC 6454, section 7.1)."""
    origins = tuple(name.lower().rstrip("/") for name in names)
    for origin in origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise ValueError(
                f"must be * or origins such as https://app.example:8443, separated by commas, not {origin}"
            )
    return origins


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class FromFile:
    """Marks the type of a setting that may also be given as `NAME_FILE`, the path of a file with its value."""


def is_from_file(annotation: object) -> bool:
    """Whether a setting of this type may be given as `NAME_FILE`."""
    return annotation is FromFile or any(map(is_from_file, get_args(annotation)))


Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_hosts)]
HostsOrAny = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_hosts_or_any)]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_origins)]
Roles = Annotated[tuple[Role, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url), FromFile]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
BindAddress = Annotated[str, BeforeValidator(_unquoted), AfterValidator(_bind_address)]
Secret = Annotated[SecretStr, FromFile]
StrongSecret = Annotated[SecretStr, AfterValidator(_strong), FromFile]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret), FromFile]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]
Hours = Annotated[int, Field(ge=1, le=MAX_DAYS * 24)]
Seconds = Annotated[int, Field(ge=1, le=MAX_DAYS * 86_400)]
Waits = Annotated[tuple[Seconds, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
PortNumber = Annotated[int, Field(ge=0, le=65535)]
LogLevel = Annotated[
    Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "critical", "silent"],
    BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
]
