"""`wherry demo` as a newcomer runs it, with fewer records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import bare_environment
from wherry.cli.demo import PARENT

SIZES = {"users": 200, "articles": 1000, "comments": 1000, "prices": 1000}


def test_the_demo_meets_its_promises_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(PARENT.glob("wherry-demo-*"))
    sizes = [text for name, count in SIZES.items() for text in (f"--{name}", str(count))]
    ended = subprocess.run(
        [sys.executable, "-m", "wherry", "demo", *sizes],
        cwd=tmp_path,
        env={**bare_environment(), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "✗" not in ended.stdout
    for said in (
        "wherry tables add 'demo_shop.*'",
        'price = "demo_shop.price"  # key warehouse, sku; 6 columns',
        "✓ demo_shop took 2 lines of declaration, one for each table, and no code",
        "✓ price: 10 refused",
        "✓ price: the wipe lost nothing",
        "✓ the shop's second exports are identical, byte for byte",
    ):
        assert said in ended.stdout, ended.stdout
    assert list(tmp_path.iterdir()) == []
    assert set(PARENT.glob("wherry-demo-*")) <= before
