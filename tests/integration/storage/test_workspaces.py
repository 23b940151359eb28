"""Retention removes the workspaces of killed processes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from wherry.database.pools import make_pool
from wherry.jobs.retention import Retention
from wherry.storage.workspaces import PREFIX, workspace


async def test_retention_removes_abandoned_workspaces_and_keeps_used_ones(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with make_pool(database_url, name="test", max_size=2) as pool:
        with workspace() as held:
            left = tmp_path / f"{PREFIX}left"
            (left / "deep").mkdir(parents=True)
            assert (await Retention(pool, {}, {}, timedelta(hours=1), timedelta(days=1)).sweep())["workspaces"] == 1
            assert (held.exists(), left.exists()) == (True, False)
