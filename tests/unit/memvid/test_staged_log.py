from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.memvid.entries import decode, records
from tests.unit.memvid.makers import frame
from wherry.errors import DoesNotFit
from wherry.memvid import sdk
from wherry.memvid.capacity import CAPACITY, HEADER, LOG_SLACK, MOST_FRAMES
from wherry.memvid.frame import Frame, Uris
from wherry.memvid.safe_text import guard, make_safe, restore
from wherry.memvid.search_text import SearchText, search_text
from wherry.memvid.staged_log import RECORD_HEADER, Encoder, stage

MOMENT = 1_700_000_000


def ours(made: Frame, words: str = "words") -> dict[str, Any]:
    return decode(Encoder(MOMENT).entry(made, words)[0])


def frame_entries(path: Path) -> list[dict[str, Any]]:
    return [decode(entry) for _, entry in records(path) if entry[:4] == bytes(4)]


def write(path: Path, frames: list[Frame]) -> None:
    sdk.create(path).close()
    encoder = Encoder(MOMENT)
    *entries, last = (encoder.entry(made, search_text(made, SearchText.FULL)) for made in frames)
    stage(path, entries, last)
    recovered = sdk.open_for_writing(path)
    recovered.stats()
    recovered.close()


def test_the_sdk_is_the_one_that_the_layout_was_taken_from() -> None:
    assert version(sdk.DISTRIBUTION) == sdk.PINNED == "2.0.160", (
        "another SDK is installed: compare its log with staged_log's layout, field by field, before you change the pin"
    )


def test_an_entry_equals_what_the_sdks_batches_write(quiet_home: Path) -> None:
    made = frame(
        1,
        text="def f():\n\n    return 'é😀'\n" * 20,
        metadata={"b": [1, {"x": None}], "a": "text", "é": 1.5, "flag": True},
        tags=["source=gitnexus", "ünïcode"],
        labels=["Function", "other"],
        track=None,
    )
    memory = sdk.create(quiet_home / "a.mv2")
    request = {name: getattr(made, name) for name in ("title", "text", "uri", "tags", "labels", "metadata")}
    sdk.put_many(memory, [{**request, "label": "Function"}])
    (theirs,) = frame_entries(quiet_home / "a.mv2")
    memory.close()
    mine = ours(made)
    # Each side compresses in its own way, and stamps its own moment; what it decodes to is compared.
    for name in ("payload", "timestamp", "search_text"):
        theirs.pop(name), mine.pop(name)
    assert mine == theirs


def test_an_entry_equals_what_the_sdks_single_put_writes(quiet_home: Path) -> None:
    made = frame(2, kind="code", track="nodes/Fünction", metadata={"line": 3, "name": "x"}, labels=["Function"])
    memory: Any = sdk.create(quiet_home / "b.mv2")
    memory.put(
        made.title,
        "Function",
        made.metadata,
        text=made.text,
        uri=made.uri,
        tags=made.tags,
        labels=made.labels,
        kind=made.kind,
        track=made.track,
        timestamp=MOMENT,
        auto_tag=False,
        extract_dates=False,
    )
    (theirs,) = frame_entries(quiet_home / "b.mv2")
    memory.close()
    mine = ours(made)
    # A single put keeps a hash instead of the text.
    for name in ("payload", "text", "encoding", "length", "sha256", "search_text"):
        theirs.pop(name), mine.pop(name)
    assert mine == theirs


def test_the_records_of_a_staged_log_read_back_and_recover(quiet_home: Path) -> None:
    path = quiet_home / "c.mv2"
    made = [frame(index) for index in range(50)]
    sdk.create(path).close()
    before = [sequence for sequence, _ in records(path)]
    encoder = Encoder(MOMENT)
    entries = [encoder.entry(one, search_text(one, SearchText.FULL)) for one in made]
    assert stage(path, entries[:-1], entries[-1]) == 50
    assert [entry for _, entry in records(path)] == [entry for entry, _ in entries]
    assert next(iter(records(path)))[0] == max(before, default=0) + 1
    recovered = sdk.open_for_writing(path)
    assert recovered.stats()["frame_count"] == 50
    recovered.close()
    assert sdk.verify(path) == "passed"


def test_capacity_counts_header_log_and_payloads(quiet_home: Path) -> None:
    path = quiet_home / "d.mv2"
    encoder = Encoder(MOMENT)
    entries = [encoder.entry(frame(index), "words") for index in range(10)]
    needed = HEADER + LOG_SLACK + sum(RECORD_HEADER + len(entry) + payload for entry, payload in entries)
    sdk.create(path).close()
    *most, last = entries
    assert stage(path, most, last, needed) == 10
    sdk.create(path).close()
    with pytest.raises(DoesNotFit) as refused:
        stage(path, most, last, needed - 1)
    assert refused.value.args == (8,), "the last one has room kept for it"
    with pytest.raises(DoesNotFit) as refused:
        stage(path, [], last, HEADER + LOG_SLACK)
    assert refused.value.args == (0,)


def test_more_frames_than_the_maximum_never_fit() -> None:
    entry, payload = Encoder(MOMENT).entry(Frame(uri="", title="", text=""), "")
    assert (MOST_FRAMES + 1) * (RECORD_HEADER + len(entry) + payload) > CAPACITY


def test_the_capacity_is_the_sdks_own(quiet_home: Path) -> None:
    path = quiet_home / "e.mv2"
    write(path, [frame()])
    reader = sdk.open_for_reading(path)
    assert reader.stats()["capacity_bytes"] == CAPACITY
    reader.close()


anything = st.text(st.characters(exclude_categories=[]), max_size=60)
words = st.lists(anything, max_size=4)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=6,
)


def safe(value: Any) -> Any:
    if isinstance(value, str):
        return make_safe(value)
    if isinstance(value, list):
        return [safe(item) for item in value]
    return {make_safe(key): safe(item) for key, item in value.items()} if isinstance(value, dict) else value


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            anything,
            anything,
            anything | st.text(max_size=3000),
            words,
            words,
            st.dictionaries(anything, values, max_size=4),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_is_written_the_sdk_reads_back(drawn: list[tuple[str, str, str, list[str], list[str], Any]]) -> None:
    uris = Uris()
    frames = [
        Frame(
            uri=uris.unique(f"mv2://x/{make_safe(uri)}"),
            title=make_safe(title),
            text=guard(make_safe(text)),
            tags=safe(tags),
            labels=safe(labels),
            metadata=safe(metadata),
        )
        for uri, title, text, tags, labels, metadata in drawn
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.mv2"
        write(path, frames)
        assert sdk.verify(path) == "passed"
        reader = sdk.open_for_reading(path)
        for made, (_, _, text, *_) in zip(frames, drawn, strict=True):
            assert restore(reader.blob(made.uri).decode()) == text
            read = reader.frame(made.uri)
            assert [read[name] for name in ("uri", "title", "tags", "labels")] == [
                made.uri,
                made.title,
                made.tags,
                made.labels,
            ]
            metadata = {name: json.loads(value) for name, value in read.get("extra_metadata", {}).items()}
            assert metadata == json.loads(json.dumps(made.metadata))
        reader.close()
