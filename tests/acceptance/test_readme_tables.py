"""README's example with a table of the user's own: its SQL, its declaration and its commands, as written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg

from tests.commands import wherry
from tests.postgres import TestServer
from tests.processes import forked_service

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> str:
    """The text of all blocks in this language."""
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def test_the_example_with_a_table_of_the_users_own_works(postgres_server: TestServer, tmp_path: Path) -> None:
    url = postgres_server.create()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(blocks("sql"))
    environment = {"DATABASE_URL": url, "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    added = wherry(tmp_path, environment, "tables", "add", "shop.*")
    assert (added.returncode, added.stderr) == (0, "")
    assert "a new row needs region, sku, amount" in wherry(tmp_path, environment, "tables", "show", "price").stdout
    (tmp_path / "tables.toml").write_text(blocks("toml"))
    value = next(line for line in blocks("sh").splitlines() if line.startswith("value()"))
    with forked_service(url, tmp_path) as up, up.admin() as admin:
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{value}\n{blocks('bash')}"],
            cwd=tmp_path,
            env={**up.environment, "URL": up.url, "TOKEN": admin.headers["Authorization"].removeprefix("Bearer ")},
            capture_output=True,
            text=True,
            timeout=120,
        )
    postgres_server.drop(url)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        *('"status":"succeeded"', '"status":"partial"', '"successCount":2'),
        '"message":"amount: We never pay to sell."',
        '"details":{"constraint": "amount_not_negative"}',
        *("MISSING_REQUIRED_FIELD", "INVALID_ENUM_VALUE", "INVALID_REFERENCE"),
        '"amount":12.50,"state":"live","details":{"colour": "red"},"supplier_id":1}',
        '"amount":9.99,"state":"draft","details":null,"supplier_id":null}',
    ):
        assert said in done.stdout, done.stdout
    assert "margin" not in done.stdout
    assert len(re.findall('"recordIndex":2', done.stdout)) == 4
