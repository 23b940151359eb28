"""Everything that can be set, read once from the environment and a `.env` file.

In: environment variables. Out: one frozen `Settings`, or `Misconfigured`, which names every variable that
cannot be read and says what it must be. Secrets never appear in a repr or a log.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from wherry.errors import Misconfigured

MIN_SECRET_BYTES = 32
"""HS256 wants a key at least as long as its digest (RFC 7518, section 3.2)."""

WELL_KNOWN_SECRETS = frozenset({"superSecret", "secret", "change-me", "changeme", "your-secret-key", "your_jwt_secret"})
PRISMA_PARAMETERS = frozenset(
    {"schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer", "statement_cache_size", "sslaccept"}
)
NOT_NEEDED = ("REDIS_URL", "ERROR_REPORT_STORAGE_PATH")

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
    """The URL without what only Prisma understands, so that the older service's own setting keeps working."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if dict(query).get("schema", "public") != "public":
        raise ValueError("must not name a schema other than public")
    kept = [(name, value) for name, value in query if name not in PRISMA_PARAMETERS]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def _bind_address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not (separator and host and port.isdecimal() and int(port) < 65536):
        raise ValueError("must be an address of the form host:port")
    return value


def _absent_when_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Roles = Annotated[tuple[Role, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
Optional = BeforeValidator(_absent_when_blank)
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]
BaseUrl = Annotated[str, AfterValidator(lambda url: url.rstrip("/"))]


class Settings(BaseSettings):
    """One frozen reading of the environment; names are those of the variables, in lower case."""

    model_config = SettingsConfigDict(env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True)

    # where
    wherry_data_dir: Path = Path(".wherry")
    database_url: Annotated[PostgresUrl | None, Optional] = None
    export_database_url: Annotated[PostgresUrl | None, Optional] = None
    pg_bindir: Annotated[str | None, Optional] = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 3000
    public_url: Annotated[BaseUrl | None, Optional] = None
    database_pool_size: Count = 10

    # who
    jwt_secret: Annotated[Annotated[SecretStr, AfterValidator(_strong)] | None, Optional] = None
    jwt_expiry_hours: Count = 24
    transfer_roles: Roles = ("admin",)
    smtp_url: Annotated[SecretStr | None, Optional] = None
    smtp_from: str = "wherry@localhost"

    # the queue
    job_worker_concurrency: Count = 4
    job_retention_days: Count = 30

    # imports
    import_batch_size: Count = 5000
    import_max_file_size: Bytes = 1 << 30
    import_max_records: Count = 1_000_000
    import_max_record_bytes: Bytes = 16 << 20
    import_allowed_hosts: Names = ()
    import_storage_path: Annotated[str | None, Optional] = None
    import_error_report_download_base_url: BaseUrl = ""
    import_retention_hours: Count = 168
    import_rate_limit_per_hour: Count = 100
    import_concurrent_limit_user: Count = 10

    # exports
    export_batch_size: Count = 50_000
    export_max_records: Count = 1_000_000
    export_stream_max_limit: Count = 1000
    export_storage_path: Annotated[str | None, Optional] = None
    export_file_retention_hours: Count = 24
    export_download_base_url: BaseUrl = ""
    export_rate_limit_per_hour: Count = 100
    export_concurrent_limit_user: Count = 10
    download_redirect: bool = False

    # capsules
    memvid_export_api_key: Annotated[SecretStr | None, Optional] = None
    memvid_export_api_key_file: Annotated[Path | None, Optional] = None
    memvid_export_bind_addr: Annotated[Annotated[str, AfterValidator(_bind_address)] | None, Optional] = None
    memvid_export_root: Annotated[str | None, Optional] = None
    memvid_export_retention_seconds: Count = 86_400
    memvid_export_queue_capacity: Count = 128
    memvid_export_max_body_bytes: Bytes = 512 << 20

    # logs
    log_level: Annotated[
        Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "critical", "silent"],
        BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
    ] = "info"
    log_pretty: bool = False

    @property
    def import_root(self) -> str:
        """Where import sources are kept: a directory or a URL."""
        return self.import_storage_path or str(self.wherry_data_dir / "imports")

    @property
    def export_root(self) -> str:
        """Where export artifacts are kept: a directory or a URL."""
        return self.export_storage_path or str(self.wherry_data_dir / "exports")

    @property
    def capsule_root(self) -> str:
        """Where capsule requests and capsules are kept: a directory or a URL."""
        return self.memvid_export_root or str(self.wherry_data_dir / "capsules")

    def require_database_url(self) -> str:
        """The database's URL.

        Raises:
            Misconfigured: none is set.
        """
        if self.database_url is None:
            raise Misconfigured("DATABASE_URL must be set: a URL that begins with postgresql://")
        return self.database_url

    def require_jwt_secret(self) -> str:
        """The key that tokens are signed with.

        Raises:
            Misconfigured: none is set.
        """
        if self.jwt_secret is None:
            raise Misconfigured(f"JWT_SECRET must be set: at least {MIN_SECRET_BYTES} bytes")
        return self.jwt_secret.get_secret_value()

    def capsule_api_key(self) -> str | None:
        """The static key of the capsule routes, or None where neither the key nor its file is set.

        Raises:
            Misconfigured: the file cannot be read, or is empty.
        """
        if self.memvid_export_api_key is not None:
            return self.memvid_export_api_key.get_secret_value()
        if self.memvid_export_api_key_file is None:
            return None
        try:
            key = self.memvid_export_api_key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"MEMVID_EXPORT_API_KEY_FILE must name a readable text file: {error}") from error
        if not key:
            raise Misconfigured("MEMVID_EXPORT_API_KEY_FILE must name a file that holds a key; it is empty")
        return key


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; `overrides` win, by field name.

    Raises:
        Misconfigured: names every variable that cannot be read, and what it must be.
    """
    for name in NOT_NEEDED:
        if os.environ.get(name):
            warnings.warn(f"{name} is set but not needed, and ignored", stacklevel=2)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = (f"{_variable(fault['loc'])}: {_message(fault['msg'])}" for fault in error.errors())
        raise Misconfigured("\n".join(dict.fromkeys(lines))) from None


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"


def _message(text: str) -> str:
    return text.removeprefix("Value error, ").replace("Input should be", "must be")
