"""What a process asks of the operating system for itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from wherry.this_process import allow_open_files

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
allow_open_files(int(sys.argv[1]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("wanted", "allowed"), [(50, 100), (150, 150), (1000, 200)])
def test_a_process_may_open_as_many_files_as_it_needs_within_its_hard_limit(wanted: int, allowed: int) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(wanted)], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(allowed), "200"]
