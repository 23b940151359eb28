"""Settings: what can be set, and how a bad value is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.errors import Misconfigured
from wherry.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings()
    assert (settings.port, settings.job_worker_concurrency, settings.import_max_file_size) == (3000, 4, 1 << 30)
    assert settings.transfer_roles == ("admin",)


def test_a_dot_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=4000\nIMPORT_BATCH_SIZE=7\n")
    monkeypatch.setenv("PORT", "5000")
    settings = load_settings()
    assert (settings.port, settings.import_batch_size) == (5000, 7)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "harbour", "PORT: must be a valid integer"),
        ("IMPORT_BATCH_SIZE", "0", "IMPORT_BATCH_SIZE: must be greater than or equal to 1"),
        ("JWT_SECRET", "short", "JWT_SECRET: must be at least 32 bytes"),
        ("JWT_SECRET", "superSecret", "JWT_SECRET: must be at least 32 bytes and not a well-known default"),
        ("DATABASE_URL", "mysql://localhost/x", "DATABASE_URL: must be a URL that begins with postgresql://"),
        ("DATABASE_URL", "postgresql://localhost/x?schema=other", "must not name a schema other than public"),
        ("TRANSFER_ROLES", "captain", "TRANSFER_ROLES: must be 'admin' or 'user'"),
        ("MEMVID_EXPORT_BIND_ADDR", "nowhere", "MEMVID_EXPORT_BIND_ADDR: must be an address of the form host:port"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: must be 'trace', 'debug'"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert said in str(refused.value)


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("EXPORT_BATCH_SIZE", "y")
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert "PORT:" in str(refused.value)
    assert "EXPORT_BATCH_SIZE:" in str(refused.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-" * 8
    for name in ("JWT_SECRET", "MEMVID_EXPORT_API_KEY", "SMTP_URL"):
        monkeypatch.setenv(name, secret)
    assert secret not in repr(load_settings())
    monkeypatch.setenv("JWT_SECRET", "not-long-enough-s3cr3t")
    with pytest.raises(Misconfigured) as refused:
        load_settings()
    assert "s3cr3t" not in str(refused.value)


def test_a_url_made_for_the_older_service_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p%40@db:5432/x?schema=public&connection_limit=5&sslmode=require")
    assert load_settings().database_url == "postgresql://u:p%40@db:5432/x?sslmode=require"


@pytest.mark.parametrize("name", ["REDIS_URL", "ERROR_REPORT_STORAGE_PATH"])
def test_settings_that_are_not_needed_any_more_are_said_to_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "something")
    with pytest.warns(UserWarning, match=name):
        load_settings()


def test_the_capsule_key_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("the-key\n")
    monkeypatch.setenv("MEMVID_EXPORT_API_KEY_FILE", str(file))
    assert load_settings().capsule_api_key() == "the-key"
    file.write_text("\n")
    with pytest.raises(Misconfigured, match="MEMVID_EXPORT_API_KEY_FILE"):
        load_settings().capsule_api_key()
    file.unlink()
    with pytest.raises(Misconfigured, match="MEMVID_EXPORT_API_KEY_FILE"):
        load_settings().capsule_api_key()


def test_without_a_key_there_is_none() -> None:
    assert load_settings().capsule_api_key() is None
