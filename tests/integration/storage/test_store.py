"""The store: objects are complete or absent, in a directory as in a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.object_store import ObjectStore
from wherry.errors import Unavailable
from wherry.storage.store import Store, Stored

CHUNKS = [b"one", b"", b"two" * 4_000_000, b"three"]
CONTENT = b"".join(CHUNKS)
STORED = Stored("job/1.ndjson", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())

Put = Callable[[Store, str, Iterable[bytes]], Awaitable[Stored]]


@pytest.fixture
def bucket(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of this test's own."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = uuid4().hex
    s3.bucket(name)
    return f"s3://{name}/a/prefix"


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A directory, and a bucket."""
    at_url = request.param == "bucket"
    return Store(request.getfixturevalue("bucket") if at_url else str(tmp_path / "store"))


async def _from_thread(store: Store, key: str, chunks: Iterable[bytes]) -> Stored:
    return store.put_blocking(key, chunks)


async def _from_loop(store: Store, key: str, chunks: Iterable[bytes]) -> Stored:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return await store.put(key, stream())


@pytest.fixture(params=[_from_thread, _from_loop], ids=["blocking", "async"])
def put(request: pytest.FixtureRequest) -> Put:
    """The two ways to write an object."""
    way: Put = request.param
    return way


async def read(store: Store, key: str, *part: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, *part)])


async def keys(store: Store) -> list[str]:
    return sorted([listed.key async for listed in store.list()])


async def test_a_stream_is_stored_with_its_size_and_digest(store: Store, put: Put) -> None:
    assert await put(store, "job/1.ndjson", CHUNKS) == STORED
    assert await read(store, "job/1.ndjson") == CONTENT
    assert await store.size("job/1.ndjson") == len(CONTENT)
    assert [(listed.key, listed.size) async for listed in store.list("job")] == [("job/1.ndjson", len(CONTENT))]


@pytest.fixture(params=[None, "/dev/shm"], ids=["same file system", "another file system"])
def loose_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file with the content, outside of any store."""
    with tempfile.TemporaryDirectory(dir=request.param or tmp_path) as folder:
        path = Path(folder, "file")
        path.write_bytes(CONTENT)
        yield path


async def test_a_file_is_moved_into_the_store(store: Store, loose_file: Path) -> None:
    assert await store.move_file("job/1.ndjson", loose_file, sha256=STORED.sha256) == STORED
    assert await read(store, "job/1.ndjson") == CONTENT
    assert [(listed.key, listed.size) async for listed in store.list("job")] == [("job/1.ndjson", len(CONTENT))]


async def test_a_moved_file_is_not_copied_and_becomes_private(tmp_path: Path) -> None:
    store, loose = Store(str(tmp_path / "store")), tmp_path / "loose"
    loose.write_bytes(CONTENT)
    loose.chmod(0o644)
    before = loose.stat().st_ino
    await store.move_file("job/1.ndjson", loose, sha256=STORED.sha256)
    after = (tmp_path / "store/job/1.ndjson").stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before, 0o600)
    assert not loose.exists()


async def test_a_copy_that_differs_from_its_file_is_not_kept(bucket: str, tmp_path: Path) -> None:
    store, loose = Store(bucket), tmp_path / "loose"
    loose.write_bytes(b"other")
    with pytest.raises(Unavailable, match="copy differs"):
        await store.move_file("job/1.ndjson", loose, sha256=STORED.sha256)
    assert await keys(store) == []


async def test_an_empty_stream_is_stored_as_an_empty_object(store: Store, put: Put) -> None:
    assert (await put(store, "empty", [])).size == 0
    assert await store.size("empty") == 0
    assert await read(store, "empty") == b""


async def test_an_object_is_replaced_completely(store: Store, put: Put) -> None:
    await put(store, "job/1.ndjson", [b"old and longer than the new one"])
    await put(store, "job/1.ndjson", [b"new"])
    assert await read(store, "job/1.ndjson") == b"new"


@pytest.mark.parametrize(
    "part", [(0,), (1,), (len(CONTENT) - 1,), (0, 1), (3, 2_000_003), (len(CONTENT) - 5, len(CONTENT)), (7, 7)]
)
async def test_any_part_of_an_object_can_be_read(store: Store, part: tuple[int, ...]) -> None:
    store.put_blocking("job/1.ndjson", CHUNKS)
    assert await read(store, "job/1.ndjson", *part) == CONTENT[slice(*part) if len(part) > 1 else slice(part[0], None)]


async def test_a_missing_object_is_reported_and_deleting_it_is_no_error(store: Store) -> None:
    assert await store.size("job/none") is None
    with pytest.raises(FileNotFoundError):
        await read(store, "job/none")
    await store.delete("job/none")
    store.put_blocking("job/1.ndjson", [b"x"])
    await store.delete("job/1.ndjson")
    assert await keys(store) == []


async def test_listing_a_folder_does_not_list_folders_whose_names_begin_alike(store: Store) -> None:
    for key in ("a/1", "a/2", "ab/1"):
        store.put_blocking(key, [b"x"])
    assert sorted([listed.key async for listed in store.list("a")]) == ["a/1", "a/2"]
    await store.check()


async def test_a_failing_stream_raises_its_own_error_and_leaves_nothing(
    store: Store, put: Put, s3: ObjectStore
) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 12_000_000
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        await put(store, "job/1.ndjson", failing())
    assert await keys(store) == []
    assert await store.size("job/1.ndjson") is None
    async with asyncio.timeout(10):
        while s3.unfinished_uploads():  # noqa: ASYNC110  # the upload is aborted in the background
            await asyncio.sleep(0.01)


@pytest.fixture
def folder(store: Store, s3: ObjectStore) -> Path:
    """The folder in which the store's complete objects are files."""
    return s3.folder / store.root.removeprefix("s3://") if "://" in store.root else Path(store.root)


async def test_an_object_is_visible_only_once_it_is_complete(store: Store, put: Put, folder: Path) -> None:
    seen: list[bool] = []

    def watching() -> Iterator[bytes]:
        for chunk in CHUNKS:
            seen.append((folder / "job/1.ndjson").exists())
            yield chunk

    await put(store, "job/1.ndjson", watching())
    assert seen
    assert not any(seen)
    assert (folder / "job/1.ndjson").exists()


async def test_a_bucket_signs_urls_and_a_directory_does_not(bucket: str, tmp_path: Path) -> None:
    local, remote = Store(str(tmp_path / "store")), Store(bucket)
    for store in (local, remote):
        store.put_blocking("job/1.ndjson", CHUNKS)
    assert await local.signed_url("job/1.ndjson", timedelta(minutes=1)) is None
    url = await remote.signed_url("job/1.ndjson", timedelta(minutes=1))
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as stranger:
        assert (await stranger.get(url)).content == CONTENT


async def test_a_bucket_that_does_not_respond_is_reported_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = Store("s3://bucket/prefix", patience=timedelta(milliseconds=100))
    with pytest.raises(Unavailable, match="storage"):
        await store.check()
    with pytest.raises(Unavailable, match="storage"):
        store.put_blocking("job/1.ndjson", CHUNKS)
    with pytest.raises(Unavailable, match="storage"):
        await store.size("job/1.ndjson")


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def stopped() -> Iterator[bytes]:
        yield b"x"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.ndjson#0"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_blocking("job/1.ndjson", stopped())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_directory_that_cannot_be_written_is_reported_as_unavailable(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store(str(root))
    shutil.rmtree(root)
    root.write_text("a file where the directory was")
    with pytest.raises(Unavailable, match="storage cannot be written"):
        store.put_blocking("job/1.ndjson", CHUNKS)


async def test_a_new_directory_and_its_objects_are_private(tmp_path: Path, put: Put) -> None:
    root = tmp_path / "store"
    store = Store(str(root))
    await put(store, "job/1.ndjson", CHUNKS)
    assert {path.relative_to(root): stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))} == {
        Path(): 0o700,
        Path("job"): 0o700,
        Path("job/1.ndjson"): 0o600,
    }


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    Store(str(tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


async def test_a_folder_is_removed_with_its_last_object(tmp_path: Path, put: Put) -> None:
    store = Store(str(tmp_path / "store"))
    for key in ("job/1", "job/2", "other/1", "top"):
        await put(store, key, [b"x"])
    await store.delete("job/1")
    assert (tmp_path / "store/job/2").exists()
    for key in ("job/2", "other/1", "top", "job/2", "never/was"):
        await store.delete(key)
    assert list((tmp_path / "store").iterdir()) == []
    await store.check()


async def test_a_failed_write_leaves_no_folder(tmp_path: Path, put: Put) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    store = Store(str(tmp_path / "store"))
    with pytest.raises(LookupError):
        await put(store, "job/1", failing())
    assert list((tmp_path / "store").iterdir()) == []


def test_the_files_of_a_crashed_writer_are_removed_with_their_folder(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "job").mkdir()
    (tmp_path / "job/1#3").write_bytes(b"x")
    assert store.remove_abandoned_uploads(-1) == 1
    assert list(tmp_path.iterdir()) == []


async def test_deleting_never_removes_a_folder_that_is_being_written_to(tmp_path: Path, put: Put) -> None:
    store = Store(str(tmp_path / "store"))
    done = False

    def tidy() -> None:
        while not done:
            asyncio.run(store.delete("job/other"))

    deleting = asyncio.create_task(asyncio.to_thread(tidy))
    try:
        for _ in range(200):
            await put(store, "job/1", [b"x"])
            await store.delete("job/1")
    finally:
        done = True
        await deleting
