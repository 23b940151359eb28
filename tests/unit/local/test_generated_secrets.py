"""`wherry up` generates the secrets that are not set, once."""

from __future__ import annotations

import json
from pathlib import Path

from wherry.local.data_directory import GENERATED, generated_secrets, secrets_file
from wherry.settings import load_settings


def _generated(folder: Path) -> dict[str, str]:
    return generated_secrets(load_settings(), folder)


def test_generated_secrets_are_valid_and_stay_the_same(tmp_path: Path) -> None:
    first = _generated(tmp_path)
    assert first.keys() == GENERATED.keys()
    assert len(set(first.values())) == len(first)
    settings = load_settings(**{name.lower(): value for name, value in first.items()})
    assert settings.webhook_key()
    assert _generated(tmp_path) == first


def test_a_file_of_an_older_version_is_completed(tmp_path: Path) -> None:
    first = _generated(tmp_path)
    older = {name: value for name, value in first.items() if name != "WEBHOOK_SECRET"}
    secrets_file(tmp_path).write_text(json.dumps(older))
    second = _generated(tmp_path)
    assert {name: second[name] for name in older} == older
    assert load_settings(webhook_secret=second["WEBHOOK_SECRET"]).webhook_key()


def test_a_secret_that_is_set_is_not_generated(tmp_path: Path) -> None:
    settings = load_settings(webhook_secret="whsec_" + "MDEy" * 8)
    assert "WEBHOOK_SECRET" not in generated_secrets(settings, tmp_path)
