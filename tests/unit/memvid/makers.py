"""Small frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from wherry.memvid.frame import Frame
from wherry.memvid.spool import write_spool


def frame(index: int = 0, **changes: Any) -> Frame:
    made = Frame(
        uri=f"mv2://nodes/{index}",
        title=f"Function: name_{index}",
        text=f"Function: name_{index}\nid: {index}\n\ndef name_{index}():\n\n    return {index}\n",
        track="nodes/Function",
        tags=["source=gitnexus"],
        labels=["Function"],
        metadata={"line": index},
        name=f"name_{index}",
    )
    return msgspec.structs.replace(made, **changes)


def spooled(frames: Iterable[Frame], path: Path) -> tuple[Path, int]:
    """Frames in a new spool: the first two arguments of `write_capsule`."""
    return path, write_spool(path, frames)
