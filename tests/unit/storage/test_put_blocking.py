from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import Unavailable
from wherry.storage.store import Store, Stored

CHUNKS = [b"one", b"", b"two" * 1_000_000, b"three"]
CONTENT = b"".join(CHUNKS)
STORED = Stored("job/1.ndjson", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A directory; and a store that is reached by URL, as buckets are."""
    return Store(str(tmp_path / "store") if request.param == "directory" else "memory://")


async def read(store: Store, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.read(key)])


async def keys(store: Store) -> list[str]:
    return [listed.key async for listed in store.list()]


async def test_a_stream_becomes_an_object_with_its_size_and_digest(store: Store) -> None:
    assert store.put_blocking("job/1.ndjson", CHUNKS) == STORED
    assert await read(store, "job/1.ndjson") == CONTENT
    assert await keys(store) == ["job/1.ndjson"]


async def test_an_empty_stream_is_an_empty_object(store: Store) -> None:
    assert store.put_blocking("empty", []).size == 0
    assert await store.size("empty") == 0


async def test_an_object_is_replaced_whole(store: Store) -> None:
    store.put_blocking("job/1.ndjson", [b"old and longer than the new one"])
    store.put_blocking("job/1.ndjson", [b"new"])
    assert await read(store, "job/1.ndjson") == b"new"


async def test_a_stream_that_fails_raises_its_own_error_and_leaves_nothing(store: Store) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 6_000_000
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        store.put_blocking("job/1.ndjson", failing())
    assert await keys(store) == []
    assert await store.size("job/1.ndjson") is None


async def test_nothing_is_visible_before_it_is_complete(store: Store) -> None:
    seen: list[bool] = []

    def watching() -> Iterator[bytes]:
        for chunk in CHUNKS:
            path = store.local_path("job/1.ndjson")
            seen.append(path is not None and path.exists())
            yield chunk

    store.put_blocking("job/1.ndjson", watching())
    assert not any(seen)
    assert await keys(store) == ["job/1.ndjson"]


def test_a_directory_holds_nothing_but_complete_objects(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def stopped() -> Iterator[bytes]:
        yield b"x"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.ndjson#0"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_blocking("job/1.ndjson", stopped())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_directory_that_cannot_be_written_is_said_to_be_unavailable(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store(str(root))
    shutil.rmtree(root)
    root.write_text("a file where the directory was")
    with pytest.raises(Unavailable, match="storage cannot be written"):
        store.put_blocking("job/1.ndjson", CHUNKS)
