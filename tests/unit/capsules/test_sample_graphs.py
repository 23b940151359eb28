"""Real graphs become capsules that hold and find everything."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.capsules.makers import sample_graph
from tests.unit.memvid.makers import spooled
from tests.unit.memvid.test_writer import Log
from wherry.capsules.graph_frames import graph_frames
from wherry.capsules.reading import read_graph
from wherry.memvid import sdk
from wherry.memvid.messages import Way
from wherry.memvid.verification import is_found, verify
from wherry.memvid.writer import write_capsule


@pytest.mark.parametrize("name", ["minimedium", pytest.param("procrastinate", marks=pytest.mark.long)])
async def test_a_real_graph_becomes_a_capsule_in_which_every_name_is_found(name: str, quiet_home: Path) -> None:
    graph = read_graph(sample_graph(name))
    log, path = Log(), quiet_home / "out.mv2"
    spool = spooled(graph_frames(graph), quiet_home / "frames")
    done = await write_capsule(*spool, path, workspace=quiet_home / "work", on_progress=log)
    assert done.way is Way.STAGED
    assert done.frames == graph.labels.total() + graph.types.total() + 1
    # Looking a frame up takes the reader longer the more there are: a tenth of them is enough.
    verify(path, list(graph_frames(graph))[::10], done.frames)
    assert max(later - earlier for earlier, later in pairwise(log.times)) < 2
    # The index holds words; a name without a letter or a digit has none, and is found by its uri alone.
    names = {node.name for node in graph.nodes if re.search(r"[^\W_]", node.name)}
    reader = sdk.open_for_reading(path)
    assert sorted(name for name in names if not is_found(reader, name)) == []
    reader.close()
