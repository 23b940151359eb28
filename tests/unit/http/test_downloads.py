from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar, Request, Response, route
from litestar.params import FromPath
from litestar.testing import TestClient

from wherry.http.downloads import (
    ArtifactFile,
    content_disposition,
    download_response,
    plan_response,
)
from wherry.http.problems import exception_handlers
from wherry.http.ranges import MAX_RANGES
from wherry.settings import Settings, load_settings
from wherry.storage.store import Store

CONTENT = (bytes(range(251)) * 4200)[: (1 << 20) + 4099]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'
DOWNLOAD = ArtifactFile(
    key="job/1.ndjson", size=len(CONTENT), sha256=SHA256, file_name="job.ndjson", content_type="application/x-ndjson"
)


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Litestar]]:
    """A client of an application with one route: GET and HEAD of any stored file whose key is its path."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    files = {
        "file": (DOWNLOAD, CONTENT),
        "empty": (described("empty", b""), b""),
        "gone": (described("gone", b"x"), None),
    }

    async def fill() -> None:
        for download, content in files.values():
            if content is not None:
                await store.put(download.key, _chunks(content))

    @route("/{name:str}", http_method=["GET", "HEAD"])
    async def serve(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
        return await download_response(request, store, files[name][0], load_settings())

    app = Litestar([serve], on_startup=[fill], exception_handlers=exception_handlers(), openapi_config=None)
    with TestClient(app) as running:
        yield running


def described(name: str, content: bytes) -> ArtifactFile:
    digest = hashlib.sha256(content).hexdigest()
    return ArtifactFile(key=name, size=len(content), sha256=digest, file_name=name, content_type="text/plain")


def parts_of(response: httpx.Response) -> list[tuple[str, bytes]]:
    """The `Content-Range` and the bytes of each part of a multipart answer, read as e-mail software would."""
    head = f"Content-Type: {response.headers['content-type']}\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode()
    message: Message = BytesParser().parsebytes(head + response.content)
    boundary = str(message.get_boundary()).encode()
    bodies = response.content.split(b"\r\n--" + boundary)[1:-1]
    assert response.content.endswith(b"\r\n--" + boundary + b"--\r\n")
    found = []
    for body in bodies:
        headers, _, content = body.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in headers.strip().split(b"\r\n"))
        assert fields[b"Content-Type"] == b"application/x-ndjson"
        found.append((fields[b"Content-Range"].decode(), content))
    return found


def test_a_whole_file_comes_with_its_length_digest_and_name(client: TestClient[Litestar]) -> None:
    response = client.get("/file")
    assert response.status_code == 200
    assert response.content == CONTENT
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    expected = {
        "content-length": str(len(CONTENT)),
        "content-type": "application/x-ndjson",
        "content-disposition": 'attachment; filename="job.ndjson"',
        "etag": ETAG,
        "accept-ranges": "bytes",
        "repr-digest": f"sha-256=:{digest}:",
    }
    assert {name: response.headers[name] for name in expected} == expected
    assert "content-encoding" not in response.headers


def test_head_answers_like_get_without_a_body_and_knows_no_ranges(client: TestClient[Litestar]) -> None:
    whole = client.get("/file")
    response = client.head("/file", headers={"Range": "bytes=0-9"})
    assert response.status_code == 200
    assert response.content == b""
    assert dict(response.headers) == dict(whole.headers)


def test_an_empty_file_is_sent_whole_whatever_range_is_asked(client: TestClient[Litestar]) -> None:
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-5"}):
        response = client.get("/empty", headers=headers)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-length"] == "0"


def test_a_file_that_is_not_there_any_more_is_gone(client: TestClient[Litestar]) -> None:
    for method in ("GET", "HEAD"):
        response = client.request(method, "/gone")
        assert response.status_code == 410


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("BYTES=10-19", 10, 20),
        ("bytes= 10-19 ", 10, 20),
        ("bytes=,,10-19,", 10, 20),
        ("bytes=1048570-1048586", 1048570, 1048587),
        ("bytes=1051000-", 1051000, len(CONTENT)),
        ("bytes=-17", len(CONTENT) - 17, len(CONTENT)),
        ("bytes=-99999999999999999999999999", 0, len(CONTENT)),
        ("bytes=5-99999999999999999999999999", 5, len(CONTENT)),
        ("bytes=0-5,3-9", 0, 10),
        ("bytes=20-29,0-9", 0, 30),
    ],
)
def test_one_range_is_a_206_with_just_its_bytes(client: TestClient[Litestar], asked: str, start: int, end: int) -> None:
    response = client.get("/file", headers={"Range": asked})
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert response.headers["content-length"] == str(end - start)
    assert response.content == CONTENT[start:end]
    assert response.headers["repr-digest"] == client.head("/file").headers["repr-digest"]


def test_several_ranges_are_parts_in_the_order_asked(client: TestClient[Litestar]) -> None:
    response = client.get("/file", headers={"Range": "bytes=1050000-1050009, 0-4, -3"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert response.headers["content-length"] == str(len(response.content))
    size = len(CONTENT)
    assert parts_of(response) == [
        (f"bytes 1050000-1050009/{size}", CONTENT[1050000:1050010]),
        (f"bytes 0-4/{size}", CONTENT[:5]),
        (f"bytes {size - 3}-{size - 1}/{size}", CONTENT[-3:]),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=9-1",
        "bytes=0-1;2-3",
        "bytes=0-9,x",
        "bytes=1.0-2",
        "bytes=٣-٤",
        "lines=0-9",
        "bytes 0-9",
        "bytes=" + ",".join(f"{place * 1000}-{place * 1000}" for place in range(MAX_RANGES + 1)),
    ],
)
def test_a_range_that_is_none_is_ignored(client: TestClient[Litestar], asked: str) -> None:
    response = client.get("/file", headers=[(b"Range", asked.encode())])
    assert response.status_code == 200
    assert len(response.content) == len(CONTENT)


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=-0", "bytes=9999999-99999999, -0"])
def test_a_range_behind_the_file_is_416_and_names_its_size(client: TestClient[Litestar], asked: str) -> None:
    response = client.get("/file", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert response.headers["content-type"] == "application/problem+json"


def test_if_range_gives_the_part_of_the_same_file_and_the_whole_of_another(client: TestClient[Litestar]) -> None:
    statuses = {
        tag: client.get("/file", headers={"Range": "bytes=0-9", "If-Range": tag}).status_code
        for tag in (ETAG, '"other"', f"W/{ETAG}", "Wed, 21 Oct 2026 07:28:00 GMT")
    }
    assert list(statuses.values()) == [206, 200, 200, 200]


@pytest.mark.parametrize("tags", [ETAG, f"W/{ETAG}", "*", f'"other", {ETAG}', f'W/"other",{ETAG}'])
def test_a_client_that_has_the_file_gets_304(client: TestClient[Litestar], tags: str) -> None:
    for method in ("GET", "HEAD"):
        response = client.request(method, "/file", headers={"If-None-Match": tags, "Range": "bytes=0-9"})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == ETAG
        assert "content-length" not in response.headers


def test_a_client_that_has_another_file_gets_this_one(client: TestClient[Litestar]) -> None:
    assert client.get("/file", headers={"If-None-Match": '"other"'}).status_code == 200


def test_if_match_insists_on_the_file(client: TestClient[Litestar]) -> None:
    statuses = [
        client.get("/file", headers={"If-Match": tags, "Range": "bytes=0-0"}).status_code
        for tags in (ETAG, "*", f'"x", {ETAG}', '"other"', f"W/{ETAG}")
    ]
    assert statuses == [206, 206, 206, 412, 412]


async def test_a_storage_that_can_sign_serves_the_file_itself_where_that_is_wanted() -> None:
    store = SignedStore()
    wanted = load_settings(download_redirect=True)
    response = await _respond(store, wanted, "GET", {})
    assert response.status_code == 307
    assert response.headers["Location"] == "https://bucket.example/job/1.ndjson?signature"
    assert response.headers["Cache-Control"] == "no-store"
    for method, headers, settings_, status in (
        ("HEAD", {}, wanted, 200),
        ("GET", {"if-none-match": ETAG}, wanted, 304),
        ("GET", {}, load_settings(), 200),
    ):
        assert (await _respond(store, settings_, method, headers)).status_code == status


class SignedStore(Store):
    """A bucket as far as signing is concerned: a directory cannot sign."""

    def __init__(self) -> None:
        self.root = "s3://bucket"

    async def size(self, key: str) -> int | None:
        return len(CONTENT)

    async def signed_url(self, key: str, expires_in: Any) -> str | None:
        return f"https://bucket.example/{key}?signature"


async def _respond(store: Store, chosen: Settings, method: str, headers: dict[str, str]) -> Response[Any]:
    scope: Any = {
        "type": "http",
        "method": method,
        "path": "/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return await download_response(Request(scope), store, DOWNLOAD, chosen)


async def test_a_range_is_read_from_the_storage_alone(tmp_path: Path) -> None:
    """Memory and time follow what is asked for, not what is stored: nothing before or behind a range is touched."""

    class Watched(Store):
        reads: list[tuple[int, int | None]] = []

        async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            self.reads.append((start, end))
            async for chunk in super().read(key, start, end):
                yield chunk

    store = Watched(str(tmp_path))
    await store.put(DOWNLOAD.key, _chunks(CONTENT))
    response: Any = await _respond(store, load_settings(), "GET", {"range": "bytes=100-199"})
    assert b"".join([chunk async for chunk in response.iterator]) == CONTENT[100:200]
    assert store.reads == [(100, 200)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain-name.csv.gz", 'attachment; filename="plain-name.csv.gz"'),
        ('a"b.mv2', "attachment; filename=\"a_b.mv2\"; filename*=UTF-8''a%22b.mv2"),
        ("a\r\nSet-Cookie: x", 'attachment; filename="a__Set-Cookie: x"'),
        ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
        ("ärger.mv2", "attachment; filename=\"_rger.mv2\"; filename*=UTF-8''%C3%A4rger.mv2"),
        ("100%.csv", "attachment; filename=\"100_.csv\"; filename*=UTF-8''100%25.csv"),
        ("\ud800.csv", 'attachment; filename="?.csv"'),
        ("", 'attachment; filename="download"'),
    ],
)
def test_a_file_name_cannot_break_the_header(name: str, expected: str) -> None:
    assert content_disposition(name) == expected


@given(st.text())
def test_every_file_name_makes_a_well_formed_header(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert "/" not in header.split('"')[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ranges=st.lists(
        st.one_of(
            st.tuples(st.integers(0, len(CONTENT) * 2), st.integers(0, len(CONTENT) * 2)).map(
                lambda pair: f"{min(pair)}-{max(pair)}"
            ),
            st.integers(0, len(CONTENT) * 2).map(lambda start: f"{start}-"),
            st.integers(0, len(CONTENT) * 2).map(lambda length: f"-{length}"),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_ranges_are_asked_every_answer_is_true(client: TestClient[Litestar], ranges: list[str]) -> None:
    response = client.get("/file", headers={"Range": f"bytes={','.join(ranges)}"})
    assert response.status_code in (206, 416)
    if response.status_code == 416:
        return
    assert response.headers["content-length"] == str(len(response.content))
    single = response.headers.get("content-range")
    for described_range, content in [(single, response.content)] if single else parts_of(response):
        first, _, last = described_range.removeprefix("bytes ").partition("/")[0].partition("-")
        assert content == CONTENT[int(first) : int(last) + 1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(CONTENT)))
def test_a_download_that_was_cut_is_completed_by_a_range(client: TestClient[Litestar], cut: int) -> None:
    had = CONTENT[:cut]
    if cut == len(CONTENT):
        return
    rest = client.get("/file", headers={"Range": f"bytes={cut}-", "If-Range": ETAG})
    assert rest.status_code == 206
    digest = base64.b64encode(hashlib.sha256(had + rest.content).digest()).decode()
    assert rest.headers["repr-digest"] == f"sha-256=:{digest}:"


def test_what_is_decided_needs_no_file() -> None:
    decided = plan_response("GET", {"range": "bytes=0-1,5000-5001"}, DOWNLOAD)
    assert decided.status == 206
    assert [piece for piece in decided.pieces if not isinstance(piece, bytes)] == [(0, 2), (5000, 5002)]
