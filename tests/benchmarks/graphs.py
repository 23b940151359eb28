"""Time and memory that graphs of 512 MiB take: ``python -m tests.benchmarks.graphs``.

In: three bodies, in a temporary folder below /var/tmp. Out: a line per body and step, with the peak of the anonymous
memory (RssAnon, sampled) of this process, which stands for the API and the worker, and of the process that it started.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from tests.processes import pids_of
from tests.unit.capsules.makers import sample_graph
from wherry.capsules.offload import check_file, transform
from wherry.errors import CapsuleFailed, JobFailed, Refused
from wherry.memvid.writer import write_capsule

MIB = 1 << 20
SAMPLE_SECONDS = 0.01
STARTED = ("wherry.capsules.process", "wherry.memvid.writer_process")
SMALL = {
    "sessionId": "s",
    "projectName": "p",
    "source": {"type": "folder", "baseName": "b"},
    "relationships": [{"id": "r", "sourceId": "a", "targetId": "a", "type": "CALLS"}],
}


def main() -> None:
    """Measure every body."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of each body")
    size = parser.parse_args().mib * MIB
    with tempfile.TemporaryDirectory(prefix="graphs-benchmark-", dir="/var/tmp") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        for shape in (lists, long_file, genuine):
            request = Path(folder) / "request.json"
            with request.open("wb") as out:
                for piece in shape(size):
                    out.write(piece)
            asyncio.run(measure(shape.__name__, request, request.stat().st_size))


def genuine(size: int) -> Iterator[bytes]:
    """Copies of a sample graph, each with ids and paths of its own."""
    graph = msgspec.json.decode(sample_graph("procrastinate"))
    bytes_of_one = {name: len(msgspec.json.encode(graph[name])) for name in ("nodes", "relationships", "fileContents")}
    copies = size // sum(bytes_of_one.values()) + 1
    yield msgspec.json.encode({**SMALL, "relationships": None})[:-1].replace(b',"relationships":null', b"")
    for name in ("nodes", "relationships"):
        yield f',"{name}":['.encode()
        for copy in range(copies):
            yield (b"," if copy else b"") + msgspec.json.encode([copied(each, copy) for each in graph[name]])[1:-1]
        yield b"]"
    yield b',"fileContents":{'
    for copy in range(copies):
        files = {f"{copy}/{path}": content for path, content in graph["fileContents"].items()}
        yield (b"," if copy else b"") + msgspec.json.encode(files)[1:-1]
    yield b"}}"


def copied(element: dict[str, Any], copy: int) -> dict[str, Any]:
    """A node or a relationship of a copy."""
    made = {name: f"{copy}/{element[name]}" for name in ("id", "sourceId", "targetId") if name in element}
    properties = element.get("properties") or {}
    if "filePath" in properties:
        made["properties"] = {**properties, "filePath": f"{copy}/{properties['filePath']}"}
    return {**element, **made}


def lists(size: int) -> Iterator[bytes]:
    """`[],[],…` as nodes."""
    yield msgspec.json.encode(SMALL)[:-1] + b',"nodes":[' + b"[]"
    yield from (b",[]" * MIB for _ in range(size // (3 * MIB)))
    yield b"]}"


def long_file(size: int) -> Iterator[bytes]:
    """A file as long as the body, with one symbol near its end."""
    symbol = {"name": "f", "filePath": "a.py", "startLine": size // 50, "endLine": size // 50 + 9}
    nodes = [{"id": "a", "label": "Function", "properties": symbol}]
    yield msgspec.json.encode({**SMALL, "nodes": nodes})[:-1] + b',"fileContents":{"a.py":"'
    numbers = count()
    for _ in range(size // MIB):
        yield b"".join(b"    value_%09d = compute(%09d)\\n" % ((next(numbers),) * 2) for _ in range(MIB // 42))
    yield b'"}}'


async def measure(shape: str, request: Path, size: int) -> None:
    """Take one body as far as it gets."""
    spool, capsule = request.with_name("frames"), request.with_name("out.mv2")
    await step(shape, "check", lambda: check_file(request, size))
    made = await step(shape, "transform", lambda: transform(request, spool))
    if made is not None:
        room = request.with_name("writer")
        await step(
            shape,
            "write",
            lambda: write_capsule(spool, made.frames, capsule, workspace=room, on_progress=lambda event: None),
        )
    for file in (spool, capsule):
        file.unlink(missing_ok=True)


async def step(shape: str, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
    """Run one step, and print what it took."""
    result, outcome, began, used = None, "done", time.monotonic(), cpu_seconds()
    with Peaks() as peaks:
        try:
            result = await call()
        except (Refused, JobFailed, CapsuleFailed) as error:
            outcome = str(error)[:90]
    own, child = peaks.own // MIB, peaks.child // MIB
    seconds = f"{time.monotonic() - began:6.1f} s  CPU {cpu_seconds() - used:6.1f} s"
    print(f"{shape:10} {name:10} {seconds}  own {own:4} MiB  process {child:4} MiB  {outcome}", flush=True)
    return result


def cpu_seconds() -> float:
    """CPU time of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Peaks:
    """The most anonymous memory that this process and one of its descendants had, for the time of a `with` block."""

    def __init__(self) -> None:
        self.own = self.child = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        own = os.getpid()
        while not self._ended.wait(SAMPLE_SECONDS):
            self.own = max(self.own, anonymous(own))
            started = [pid for module in STARTED for pid in pids_of(module, parent=own)]
            self.child = max([self.child, *map(anonymous, started)])


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory of a process, 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main()
