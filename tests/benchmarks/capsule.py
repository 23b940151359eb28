"""How fast capsules are written, how large they are, and what is found in them: ``python -m tests.benchmarks.capsule``.

In: the sample graphs, and larger ones made of copies of them. Out: a table, one line a case; nothing is asserted.

Each case runs in a process of its own, so that its memory is its own. Batches and the command line write 10 to 30
frames a second, so they are measured on a few hundred frames.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import msgspec

from tests.unit.capsules.makers import sample_graph
from tests.unit.memvid.makers import spooled
from wherry.capsules.graph_frames import graph_frames
from wherry.capsules.reading import GraphReader, read_graph
from wherry.errors import CapsuleFailed
from wherry.memvid import sdk
from wherry.memvid.capacity import CAPACITY, HEADER, LOG_SLACK
from wherry.memvid.frame import Frame
from wherry.memvid.messages import Way
from wherry.memvid.search_text import SearchText, search_text
from wherry.memvid.staged_log import RECORD_HEADER, Encoder
from wherry.memvid.verification import is_found
from wherry.memvid.writer import WriterEvent, WrittenCapsule, write_capsule

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = (
    ("minimedium", "staged", None),
    ("procrastinate", "staged", None),
    ("procrastinate", "staged", 20_000),
    ("procrastinate", "staged", 30_000),
    ("procrastinate", "staged", 40_000),
    ("procrastinate", "put_many", 300),
    ("procrastinate", "cli", 300),
)
COLUMNS = (
    "graph",
    "way",
    "frames",
    "seconds",
    "frames/s",
    "writer RSS MB",
    "own RSS MB",
    "size MB",
    "search",
    "recall",
)


def main() -> None:
    """Run every case, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.case:
        graph, way, size = chosen.case
        print(json.dumps(asyncio.run(measure(graph, Way(way), int(size) if size != "None" else None))))
        return
    print("  ".join(COLUMNS))
    for graph, way, size in CASES:
        print(line(run_case(graph, way, size)), flush=True)
    for graph in ("minimedium", "procrastinate"):
        print(f"frames of {graph} that fit {CAPACITY:,} bytes: {capacity(graph)}")


def run_case(graph: str, way: str, size: int | None) -> dict[str, Any]:
    """One case, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.capsule", "--case", graph, way, str(size)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"graph": graph, "way": way, "frames": size, "seconds": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout))


def line(result: dict[str, Any]) -> str:
    """A row of the table."""
    return "  ".join(str(result.get(column, "")).rjust(len(column)) for column in COLUMNS)


async def measure(name: str, way: Way, size: int | None) -> dict[str, Any]:
    """Write one capsule, and look at it."""
    graph = read_graph(sample_graph(name))
    made = graph_frames(graph) if size is None else islice(copies(graph), size)
    with tempfile.TemporaryDirectory(prefix="capsule-benchmark-") as folder:
        path = Path(folder) / "out.mv2"
        began = time.monotonic()
        spool = spooled(made, Path(folder) / "frames")
        try:
            done = await write_capsule(*spool, path, workspace=Path(folder), on_progress=silent, ways=[way])
        except CapsuleFailed as failed:
            return {"graph": name, "way": way, "frames": size, "seconds": f"{failed.message} {failed.detail}"}
        return figures(name, graph, done, time.monotonic() - began, found=size is None)


def silent(event: WriterEvent) -> None:
    """Nobody is looking."""


def figures(name: str, graph: GraphReader, done: WrittenCapsule, seconds: float, *, found: bool) -> dict[str, Any]:
    """What a case came to."""
    return {
        "graph": name,
        "way": done.way.value,
        "frames": done.frames,
        "seconds": round(seconds, 1),
        "frames/s": round(done.frames / seconds),
        "writer RSS MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "own RSS MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "size MB": round(done.size / 1e6, 1),
        "search": done.search,
        "recall": recall(graph, done.path) if found else "",
    }


def recall(graph: GraphReader, path: Path) -> str:
    """How many of the graph's unique names are found, of those that have a letter or a digit."""
    names = {node.name for node in graph.nodes if re.search(r"[^\W_]", node.name)}
    reader = sdk.open_for_reading(path)
    found = sum(is_found(reader, name) for name in names)
    reader.close()
    return f"{found}/{len(names)}"


def copies(graph: GraphReader) -> Iterator[Frame]:
    """Frames like the graph's, without end; every copy has uris of its own."""
    for copy in count():
        for frame in graph_frames(graph):
            yield frame if copy == 0 else msgspec.structs.replace(frame, uri=f"{frame.uri}~{copy}")


def capacity(name: str) -> dict[str, int]:
    """How many frames like those of a graph fit, by how much of each can be searched."""
    graph = read_graph(sample_graph(name))
    encoder, room = Encoder(0), CAPACITY - HEADER - LOG_SLACK
    fits = {}
    for amount in SearchText:
        used, number = 0, 0
        for frame in cycle(graph_frames(graph)):
            entry, payload = encoder.entry(frame, search_text(frame, amount))
            used += RECORD_HEADER + len(entry) + payload
            if used > room:
                break
            number += 1
        fits[amount.value] = number
    return fits


if __name__ == "__main__":
    os.chdir(REPOSITORY)
    main()
