"""Keeps the Memvid SDK out of the home folder of the user who runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def quiet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HOME and TMPDIR inside the test's own folder."""
    for name in ("HOME", "TMPDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return tmp_path
