"""Verifies that a new capsule contains the frames that were written to it.

The SDK's deep verification checks only its own structures; it missed a flipped byte in the middle of a payload. So we
also count the frames, and read a sample of them back byte for byte and search for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from wherry.errors import VerificationFailed
from wherry.memvid import sdk
from wherry.memvid.frame import Frame

# A search may miss a frame for other reasons (stems, ties), so one miss proves nothing; finding most proves the index.
FOUND_AT_LEAST = 0.5
_SEARCHED = 8
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]{3,}")
_LETTER = re.compile(r"[A-Za-z0-9]")


def verify(path: Path, sample: Iterable[Frame], count: int) -> None:
    """Verify the capsule at `path`, which no process may have open.

    Args:
        sample: some of its frames; kept in memory one at a time.
        count: how many frames it must contain.

    Raises:
        VerificationFailed: the message says what differs.
    """
    status = sdk.verify(path)
    if status != "passed":
        raise VerificationFailed(f"deep verification: {status}")
    capsule = sdk.open_for_reading(path)
    try:
        found = capsule.stats()["frame_count"]
        if found != count:
            raise VerificationFailed(f"{found} frames instead of {count}")
        names: dict[str, None] = {}  # in order, each once
        for frame in sample:
            _verify_frame(capsule, frame)
            if word := _searchable(frame):
                names[word] = None
        _verify_search(capsule, list(names)[:_SEARCHED])
    finally:
        capsule.close()


def _verify_frame(capsule: sdk.Capsule, frame: Frame) -> None:
    if capsule.blob(frame.uri) != frame.text.encode():
        raise VerificationFailed(f"{frame.uri} does not read back as it was written")
    read = capsule.frame(frame.uri)
    if read["title"] != frame.title or not set(frame.tags) <= set(read["tags"]):
        raise VerificationFailed(f"{frame.uri} has lost its title or its tags")


def _verify_search(capsule: sdk.Capsule, words: Sequence[str]) -> None:
    found = sum(is_found(capsule, word) for word in words)
    if found < FOUND_AT_LEAST * len(words):
        raise VerificationFailed(f"search finds {found} of {len(words)} names")


def _searchable(frame: Frame) -> str | None:
    words = [word for word in _IDENTIFIER.findall(frame.title) if _LETTER.search(word)]
    return max(words, key=len) if words else None


def is_found(capsule: sdk.Capsule, name: str, k: int = 10) -> bool:
    """Whether a search for a name finds a frame with the name in its title or text."""
    try:
        hits = capsule.find(quoted(name), k=k)["hits"]
    except sdk.error():
        # The SDK raises if no candidate is left.
        return False
    return any(name.lower() in f"{hit['title']}\n{hit['text']}".lower() for hit in hits)


def quoted(name: str) -> str:
    """A query for exactly this name: a phrase, or all of its words if it contains quotes."""
    return f'"{name}"' if '"' not in name else " ".join(re.findall(r"\w+", name))
