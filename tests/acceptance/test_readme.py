"""The pages at the top of the tree: README's commands are run, and the files that the pages name exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import API_KEY, Service
from wherry.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_commands_in_the_readme_work(running: Service, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**running.environment, "URL": running.url, "KEY": API_KEY},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        *('"dryRun":true', '"status":"partial"', '"successCount":2', "INVALID_FIELD_FORMAT", "FIELD_TOO_SHORT"),
        *('"onConflict":"skip"', '"sourceUrl":"https://data.example.com/users.ndjson.gz"', "job_completed"),
        *('"paused":true', '"type":"retried"'),
        '{"id":1,"email":"captain@example.com"}\n{"id":2,"email":"ada@example.com"}\n{"_type":"cursor","nextCursor":2}',
    ):
        assert said in done.stdout
    assert (tmp_path / "admins.csv").read_text().splitlines()[1].startswith('1,"captain@example.com"')
    assert (tmp_path / "demo.mv2").stat().st_size > 4096


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    paths = re.findall(r"`((?:src|sql|tests|\.ci)/[\w./-]+)`", text)
    assert links + paths
    assert [name for name in links + paths if not (ROOT / name).exists()] == []
