from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tests.processes import pids_of
from tests.unit.capsules.makers import REPOSITORY, body, node
from tests.unit.memvid.test_writer import is_running
from wherry.capsules.offload import check_file, transform
from wherry.errors import Invalid, JobFailed


def request(folder: Path, **changes: object) -> Path:
    path = folder / "request.json"
    path.write_bytes(msgspec.json.encode({**body(), **changes}))
    return path


async def child_of(parent: int) -> int:
    deadline = time.monotonic() + 10
    while not (found := pids_of("wherry.capsules.process", parent=parent)):
        assert time.monotonic() < deadline, "no process was started"
        await asyncio.sleep(0.01)
    return found[0]


async def test_a_request_is_turned_into_frames_in_a_process_of_its_own(tmp_path: Path) -> None:
    made = await transform(request(tmp_path), tmp_path / "spool")
    assert (made.nodes, made.relationships, made.frames) == (1, 1, 3)


async def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"cannot be read: .* at \$\.nodes"):
        await transform(request(tmp_path, nodes={}), tmp_path / "spool")


async def test_a_large_request_is_checked_in_a_process_of_its_own(tmp_path: Path) -> None:
    summary = await check_file(request(tmp_path), 1 << 30)
    assert (summary.nodes, summary.relationships) == (1, 1)
    with pytest.raises(Invalid, match="sessionId"):
        await check_file(request(tmp_path, sessionId=5), 1 << 30)


async def test_a_disk_that_is_full_is_told_as_such(tmp_path: Path) -> None:
    made = asyncio.create_task(transform(request(tmp_path, nodes=[node("x" * 3_000_000)]), tmp_path / "spool"))
    resource.prlimit(await child_of(os.getpid()), resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(OSError, match="File too large"):
        await made


async def test_a_cancel_ends_the_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request")
    made = asyncio.create_task(transform(tmp_path / "request", tmp_path / "spool"))
    pid = await child_of(os.getpid())
    made.cancel()
    with pytest.raises(asyncio.CancelledError):
        await made
    assert not is_running(pid)


@pytest.mark.parametrize("call", ["check_file(request, 1 << 30)", "transform(request, request.with_name('spool'))"])
async def test_the_process_ends_with_its_parent(tmp_path: Path, call: str) -> None:
    os.mkfifo(tmp_path / "request")  # reading it waits for ever
    script = (
        "import asyncio\n"
        "from pathlib import Path\n"
        "from wherry.capsules.offload import check_file\n"
        "from wherry.capsules.offload import transform\n"
        f"request = Path({str(tmp_path / 'request')!r})\n"
        f"asyncio.run({call})\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=REPOSITORY)
    pid = await child_of(parent.pid)
    parent.kill()
    await parent.wait()
    deadline = time.monotonic() + 5
    try:
        while is_running(pid):
            assert time.monotonic() < deadline, "it outlived its parent"
            await asyncio.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
