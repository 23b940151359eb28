"""The part of the Memvid SDK that wherry uses, with types, and the version it was measured with.

In: paths of capsules. Out: handles on them. Imported by writer processes only: the SDK's native calls cannot be
interrupted, and it reads its environment when it is imported.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol, cast

DISTRIBUTION: Final = "memvid-sdk"
PINNED: Final = "2.0.160"
# No telemetry, no network: set before the import, which reads them.
ENVIRONMENT: Final[Mapping[str, str]] = {"MEMVID_TELEMETRY": "0", "MEMVID_OFFLINE": "1"}


class Capsule(Protocol):
    """An open capsule."""

    def commit(self) -> None:
        """Make what was appended durable."""

    def seal(self) -> None:
        """Commit, and write the table of contents."""

    def close(self) -> None:
        """Give the file back."""

    def find(self, query: str, *, k: int = 10) -> Mapping[str, Any]:
        """Search; the hits are under `hits`."""

    def frame(self, uri: str) -> Mapping[str, Any]:
        """One frame without its text."""

    def blob(self, uri: str) -> bytes:
        """One frame's text."""

    def stats(self) -> Mapping[str, Any]:
        """Counts and sizes."""


def installed_version() -> str:
    """The SDK's version, without importing it."""
    return version(DISTRIBUTION)


def _sdk() -> Any:
    os.environ.update(ENVIRONMENT)
    return importlib.import_module("memvid_sdk")


def create(path: Path) -> Capsule:
    """A new, empty capsule; what was there is gone."""
    return cast(Capsule, _sdk().create(str(path)))


def open_for_writing(path: Path) -> Capsule:
    """Open a capsule; frames that are pending in its log are committed first."""
    return cast(Capsule, _sdk().use("basic", str(path), mode="open"))


def open_for_reading(path: Path) -> Capsule:
    """Open a capsule and change nothing in it."""
    return cast(Capsule, _sdk().use("basic", str(path), read_only=True))


def has(capsule: Capsule, uri: str) -> bool:
    """Whether a frame is there."""
    try:
        capsule.frame(uri)
    except _sdk().FrameNotFoundError:
        return False
    return True


def put_many(capsule: Capsule, requests: Sequence[Mapping[str, Any]]) -> None:
    """Append frames and index them.

    The SDK's own `put_many` drops the option that keeps a text as it is, so its native part is called directly.
    """
    options = {"no_raw": False, "enable_enrichment": False}
    cast(Any, capsule)._core.put_many(list(requests), None, options)


def verify(path: Path) -> str:
    """The SDK's own deep verification: `passed`, or what it says instead."""
    return str(_sdk().Memvid.verify(str(path), deep=True)["overall_status"])


def error() -> type[Exception]:
    """The base of all that the SDK raises."""
    return cast(type[Exception], _sdk().MemvidError)
