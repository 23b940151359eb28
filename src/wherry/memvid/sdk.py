"""The part of the Memvid SDK that wherry uses, with types.

Open capsules in separate processes only: the SDK's native calls cannot be interrupted, and it reads its environment
variables when it is imported.
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
# No telemetry, no network. Must be set before the SDK is imported.
ENVIRONMENT: Final[Mapping[str, str]] = {"MEMVID_TELEMETRY": "0", "MEMVID_OFFLINE": "1"}


class Capsule(Protocol):
    """An open capsule."""

    def commit(self) -> None:
        """Make the appended frames durable."""

    def seal(self) -> None:
        """Commit, and write the table of contents."""

    def close(self) -> None:
        """Close the file."""

    def find(self, query: str, *, k: int = 10) -> Mapping[str, Any]:
        """Search; the hits are under `hits`."""

    def frame(self, uri: str) -> Mapping[str, Any]:
        """A frame without its text."""

    def blob(self, uri: str) -> bytes:
        """The text of a frame."""

    def stats(self) -> Mapping[str, Any]:
        """Counts and sizes."""


def installed_version() -> str:
    """The SDK's version, without importing it."""
    return version(DISTRIBUTION)


def _sdk() -> Any:
    os.environ.update(ENVIRONMENT)
    return importlib.import_module("memvid_sdk")


def create(path: Path) -> Capsule:
    """Create an empty capsule, replacing an existing file."""
    return cast(Capsule, _sdk().create(str(path)))


def open_for_writing(path: Path) -> Capsule:
    """Open a capsule. This first commits the frames that are pending in its log."""
    return cast(Capsule, _sdk().use("basic", str(path), mode="open"))


def open_for_reading(path: Path) -> Capsule:
    """Open a capsule read-only."""
    return cast(Capsule, _sdk().use("basic", str(path), read_only=True))


def has(capsule: Capsule, uri: str) -> bool:
    """Whether the capsule contains a frame with this URI."""
    try:
        capsule.frame(uri)
    except _sdk().FrameNotFoundError:
        return False
    return True


def put_many(capsule: Capsule, requests: Sequence[Mapping[str, Any]]) -> None:
    """Append frames and index them.

    Calls the native function directly: the SDK's own `put_many` ignores the option that leaves texts unchanged.
    """
    options = {"no_raw": False, "enable_enrichment": False}
    cast(Any, capsule)._core.put_many(list(requests), None, options)


def verify(path: Path) -> str:
    """The result of the SDK's deep verification: `passed`, or another status."""
    return str(_sdk().Memvid.verify(str(path), deep=True)["overall_status"])


def error() -> type[Exception]:
    """The base class of the SDK's exceptions."""
    return cast(type[Exception], _sdk().MemvidError)
