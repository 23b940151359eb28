"""The three ways to write a capsule.

In: a spool of frames and the path of the capsule. Out: the capsule, not yet verified, or an exception with the reason.
They run in a separate process and report their progress.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from wherry.errors import DoesNotFit, WayFailed
from wherry.memvid import sdk
from wherry.memvid.capacity import CAPACITY, fits_in_batches
from wherry.memvid.frame import Frame
from wherry.memvid.messages import Progress, Stage, Way
from wherry.memvid.search_text import SearchText, search_text
from wherry.memvid.spool import read_last, read_spool
from wherry.memvid.staged_log import RECORD_HEADER, Encoder, Entry, stage

Report = Callable[[Progress], None]

# Calls with 1,500 frames hung forever inside the SDK; calls with 500 never did.
BATCH: Final = 500
_ATTEMPTS = 3
_SPLIT_FROM = 2400
_REPORT_EVERY = 1000
# Measured on two cores: 3,000 frames per second are recovered, but only 10 to 25 are put in batches. A writer
# counts as hung if it is many times slower.
_RECOVERED_A_SECOND, _PUT_A_SECOND = 3000, 15
_PATIENCE = 20
_LEAST_PATIENCE = 60.0
_STAGED_UNTIL = 0.3


def write(way: Way, spool: Path, capsule: Path, frames: int, report: Report) -> SearchText:
    """Write the capsule in the given way. Returns how much of each frame can be searched."""
    if way is Way.STAGED:
        return _staged(spool, capsule, frames, report)
    _refuse_batches(spool, frames)
    (_put_many if way is Way.PUT_MANY else _cli)(spool, capsule, frames, report)
    return SearchText.FULL


def _staged(spool: Path, capsule: Path, frames: int, report: Report) -> SearchText:
    if (installed := sdk.installed_version()) != sdk.PINNED:
        raise WayFailed(f"the staged log needs {sdk.DISTRIBUTION} {sdk.PINNED}, but {installed} is installed")
    amount = stage_what_fits(spool, capsule, frames, report)
    expected = 0.3 + frames / _RECOVERED_A_SECOND
    report(_progress(_STAGED_UNTIL, 1.0, expected, f"Indexing {frames} frames"))
    recovered = sdk.open_for_writing(capsule)
    recovered.stats()
    recovered.close()
    return amount


def stage_what_fits(spool: Path, capsule: Path, frames: int, report: Report, capacity: int = CAPACITY) -> SearchText:
    """Stage all frames, with as much search text as there is room for.

    Raises:
        DoesNotFit: they do not fit, even with the least search text.
    """
    encoder, final = Encoder(int(time.time())), read_last(spool)
    # The last frame contains the number of the others. It is not compressed, so that a smaller number never makes it
    # longer: the number of frames that we report as fitting does fit.
    last = encoder.entry(final, search_text(final, SearchText.FULL), packed=False)
    fits = 0
    for amount in SearchText:
        sdk.create(capsule).close()
        try:
            stage(capsule, _entries(encoder, spool, frames, amount, report), last, capacity)
        except DoesNotFit as error:
            fits = error.args[0]
        else:
            return amount
    raise DoesNotFit(fits)


def _entries(encoder: Encoder, spool: Path, frames: int, amount: SearchText, report: Report) -> Iterator[Entry]:
    """All frames except the last."""
    for index, frame in enumerate(islice(read_spool(spool), frames - 1)):
        if index % _REPORT_EVERY == 0:
            done = _STAGED_UNTIL * index / frames
            report(_progress(done, done, 1.0, f"Staged {index} of {frames} frames"))
        yield encoder.entry(frame, search_text(frame, amount))


def _progress(done: float, until: float, expected: float, message: str) -> Progress:
    within = max(_LEAST_PATIENCE, expected * _PATIENCE)
    return Progress(Stage.WRITE_CAPSULE, done, until, expected, within, message)


def _refuse_batches(spool: Path, frames: int) -> None:
    """Fail before the long work starts if these frames cannot be put in batches."""
    encoder = Encoder(0)
    log, payloads, long = 0, 0, 0
    for frame in read_spool(spool):
        entry, payload = encoder.entry(frame, search_text(frame, SearchText.FULL))
        log, payloads = log + RECORD_HEADER + len(entry), payloads + payload
        long += len(frame.text) >= _SPLIT_FROM
    if long:
        raise WayFailed(f"{long} texts of {_SPLIT_FROM} characters and more would be split, and lose their white space")
    if not fits_in_batches(frames, log, payloads):
        raise WayFailed(f"{frames} frames do not fit when they are put in batches")


def _put_many(spool: Path, capsule: Path, frames: int, report: Report) -> None:
    memory = sdk.create(capsule)
    for batch in _batches(spool, frames, report):
        _put_all(memory, batch)
    memory.commit()
    memory.seal()
    memory.close()


def _put_all(memory: sdk.Capsule, batch: list[Frame]) -> None:
    """Put a batch, then again the frames that the SDK has lost: some go missing when its log grows."""
    missing = batch
    for _ in range(_ATTEMPTS):
        sdk.put_many(memory, [_request(frame) for frame in missing])
        memory.commit()
        missing = [frame for frame in missing if not sdk.has(memory, frame.uri)]
        if not missing:
            return
    raise WayFailed(f"{len(missing)} of {len(batch)} frames were lost {_ATTEMPTS} times")


def _cli(spool: Path, capsule: Path, frames: int, report: Report) -> None:
    program = shutil.which("memvid")
    if program is None:
        raise WayFailed("no memvid command is on PATH")
    capsule.unlink(missing_ok=True)
    _run(program, "create", str(capsule))
    requests = capsule.with_suffix(".json")
    for batch in _batches(spool, frames, report):
        requests.write_bytes(msgspec.json.encode([_request(frame) for frame in batch]))
        _run(program, "put-many", str(capsule), "--raw", "--json", "--input", str(requests))
    requests.unlink(missing_ok=True)


def _run(*command: str) -> None:
    """Run a command to its end. The parent process enforces the time limit by killing the whole session."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise WayFailed(
            f"memvid {command[1]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}"
        )


def _batches(spool: Path, frames: int, report: Report) -> Iterator[list[Frame]]:
    source, done = read_spool(spool), 0
    while batch := list(islice(source, BATCH)):
        until = (done + len(batch)) / frames
        report(_progress(done / frames, until, len(batch) / _PUT_A_SECOND, f"Put {done} of {frames} frames"))
        yield batch
        done += len(batch)


def _request(frame: Frame) -> dict[str, Any]:
    # `put_many` has no fields for track and kind, so they go into the metadata.
    places = {name: value for name, value in (("track", frame.track), ("kind", frame.kind)) if value}
    return {
        "title": frame.title,
        "label": frame.labels[0] if frame.labels else "frame",
        "text": frame.text,
        "uri": frame.uri,
        "tags": frame.tags,
        "labels": frame.labels,
        "metadata": {**places, **frame.metadata},
    }
