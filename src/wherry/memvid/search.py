"""Searches a capsule in a separate process: `python -m wherry.memvid.search CAPSULE WORDS`.

The SDK's native calls cannot be interrupted, and would block an event loop.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from wherry.memvid import sdk
from wherry.memvid.verification import quoted

TIMEOUT_SECONDS = 120
HITS = 10


def found_in(capsule: Path, words: str) -> list[str]:
    """The titles of the ten best hits. Blocks.

    Raises:
        subprocess.CalledProcessError: the capsule cannot be opened.
    """
    command = [sys.executable, "-m", "wherry.memvid.search", str(capsule), words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT_SECONDS)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=list[str])


def main(capsule: Path, words: str) -> None:
    """Print the titles as one line of JSON."""
    reader = sdk.open_for_reading(capsule)
    hits = reader.find(quoted(words), k=HITS)["hits"]
    reader.close()
    sys.stdout.buffer.write(msgspec.json.encode([str(hit["title"]) for hit in hits]) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
