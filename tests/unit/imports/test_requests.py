"""What a request for an import may contain, and which errors name what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.builtin_tables import ARTICLES, USERS
from wherry.errors import Invalid
from wherry.imports.models import ImportOptions, OnConflict
from wherry.imports.options import check_options, parse_options
from wherry.imports.readers import FORMATS
from wherry.imports.readers.json import detect_format
from wherry.imports.requests import (
    ImportSource,
    check_upload,
    fingerprint,
    job_options,
    parse_charset,
    parse_format,
)


@pytest.mark.parametrize(
    ("explicit", "name", "content_type", "format"),
    [
        (None, None, None, "ndjson"),
        ("", "x.txt", None, "ndjson"),
        (None, "a.json", None, None),
        (None, "A.JSON.GZ", "text/plain", None),
        (None, "a.ndjson.zst", "application/json", "ndjson"),
        (None, "a.jsonl", None, "ndjson"),
        (None, None, "application/json", None),
        (None, None, "Text/JSON; charset=utf-8", None),
        (None, None, "application/x-ndjson", "ndjson"),
        (None, None, "text/plain", "ndjson"),
        ("json", None, None, "json"),
        (" JSON ", "a.txt", "application/x-ndjson", "json"),
        ("ndjson", "a.jsonl.gz", None, "ndjson"),
        ("ndjson", None, "application/json", "ndjson"),
    ],
)
def test_the_format_is_requested_or_implied_or_depends_on_the_content(
    explicit: Any, name: str | None, content_type: str | None, format: str | None
) -> None:
    found = parse_format(explicit, ImportSource("key", name, content_type=content_type), ImportOptions())
    assert found == format


def test_the_format_of_a_url_without_an_extension_depends_on_its_content() -> None:
    assert (
        parse_format(None, ImportSource("key", "records", url="https://example.com/records"), ImportOptions()) is None
    )


@pytest.mark.parametrize("explicit", ["xml", 5, "js on", []])
def test_an_unknown_format_is_refused(explicit: Any) -> None:
    with pytest.raises(Invalid, match=r"^format must be one of ndjson, json, csv$") as refused:
        parse_format(explicit, ImportSource("key"), ImportOptions())
    assert list(refused.value.fields) == ["format"]


def test_a_format_that_contradicts_the_file_name_is_refused() -> None:
    with pytest.raises(Invalid, match=r"^format json does not match file extension \(\.ndjson\)$") as refused:
        parse_format("json", ImportSource("key", "a.ndjson.gz"), ImportOptions())
    assert list(refused.value.fields) == ["format"]


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("pieces", "format"),
    [
        ([b'[{"a": 1}]'], "json"),
        ([b" \r\n", b"\t [", b"]"], "json"),
        ([b'{"a": 1}\n{"a": 2}\n'], "ndjson"),
        ([b'\n{"a"', b": 1}\r", b"\n", b"\n ", b'{"a": 2}'], "ndjson"),
        ([b'{"a": 1}\nnonsense'], "ndjson"),
        ([b'{"a": 1}'], "json"),
        ([b'{"a": 1}\n \n'], "json"),
        ([b'{\n"data": []\n}'], "json"),
        ([b'{"a": ' + b"[" * 100_000 + b'\n{"a": 1}'], "json"),
        ([b'{"a": "' + b"x" * (2 << 20) + b'"}', b'\n{"a": 1}'], "json"),
        ([b"nonsense"], "json"),
        ([], "json"),
    ],
)
async def test_the_format_is_detected_from_the_first_bytes(pieces: list[bytes], format: str) -> None:
    assert await detect_format(chunks(*pieces)) == format


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("x", "application/json"),
        ("x", "application/ndjson"),
        ("x", "application/x-ndjson"),
        ("x", "application/jsonl"),
        ("x", "text/json"),
        ("x", "Text/Plain; charset=utf-8"),
        ("x.jsonl", "application/octet-stream"),
        ("x.json.zst", None),
        (None, "application/gzip"),
        (None, "application/zstd"),
    ],
)
def test_an_upload_is_accepted_by_its_content_type_or_file_name(name: str | None, content_type: str | None) -> None:
    check_upload(name, content_type)


@pytest.mark.parametrize(
    ("name", "content_type"), [("x.xlsx", "application/vnd.ms-excel"), (None, None), ("json", "image/png")]
)
def test_any_other_upload_is_refused(name: str | None, content_type: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        check_upload(name, content_type)
    assert refused.value.fields == {"file": ["Unsupported content type"]}


def test_options_are_read_from_forms_and_from_json() -> None:
    assert parse_options({}) == ImportOptions()
    assert parse_options({"onConflict": "", "dryRun": "", "atomic": ""}) == ImportOptions()
    form = {"onConflict": "update", "dryRun": "True", "atomic": "false"}
    assert parse_options(form) == ImportOptions(OnConflict.UPDATE, dry_run=True, atomic=False)
    assert parse_options({"onConflict": "skip", "dryRun": False, "atomic": True, "x": 1}) == ImportOptions(
        OnConflict.SKIP, dry_run=False, atomic=True
    )


def test_every_invalid_option_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse_options({"onConflict": "merge", "dryRun": "perhaps", "atomic": 1, "webhookUrl": {}})
    assert list(refused.value.fields) == ["onConflict", "dryRun", "atomic", "webhookUrl"]


def test_requests_that_differ_in_anything_have_different_fingerprints() -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"table": USERS},
        {"format": "json"},
        {"options": ImportOptions(OnConflict.SKIP)},
        {"options": ImportOptions(dry_run=True)},
        {"options": ImportOptions(atomic=True)},
        {"options": ImportOptions(webhook_url="https://a.example/")},
        {"options": ImportOptions(webhook_url="https://b.example/")},
        {"sha256": "b"},
        {"sha256": None, "url": "a"},
        {"sha256": None, "url": "b"},
    ]
    first = {"table": ARTICLES, "format": "ndjson", "options": ImportOptions(), "sha256": "a"}
    prints = [fingerprint(**{**first, **change}) for change in asked]
    assert len(set(prints)) == len(asked)
    assert prints[0] == fingerprint(**first)


def test_a_job_stores_the_options_and_the_role() -> None:
    assert job_options(ImportOptions(OnConflict.SKIP, atomic=True), "user") == {
        "onConflict": "skip",
        "dryRun": False,
        "atomic": True,
        "maxErrors": None,
        "unknownFields": "ignore",
        "columns": None,
        "recordsAt": None,
        "webhookUrl": None,
        "callerRole": "user",
    }


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        (None, None),
        ("UTF8", None),
        ("utf-8", None),
        ("latin1", "iso8859-1"),
        ("Windows-1252", "cp1252"),
        ("windows-874", "cp874"),
        ("us-ascii", "ascii"),
        ("utf-16le", "utf-16-le"),
        ("macintosh", "mac-roman"),
        ("Shift_JIS", "shift_jis"),
    ],
)
def test_a_charset_is_an_encoding(charset: str | None, encoding: str | None) -> None:
    assert parse_charset(charset) == encoding


@pytest.mark.parametrize("charset", ["klingon", "idna", "rot13", "utf-7", "hex"])
def test_a_charset_that_is_no_encoding_of_texts_is_refused(charset: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_charset(charset)
    assert list(refused.value.fields) == ["file"]


@pytest.mark.parametrize("format_", [None, *FORMATS])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ImportOptions(columns={}), "columns is only for csv files"),
        (ImportOptions(records_at="data"), "recordsAt is only for json files"),
    ],
)
def test_an_option_is_refused_for_formats_that_do_not_have_it(
    options: ImportOptions, message: str, format_: str | None
) -> None:
    name = message.partition(" ")[0]
    if format_ is not None and name in FORMATS[format_].own_options:
        check_options(options, format_, USERS)
    else:
        with pytest.raises(Invalid, match=message) as refused:
            check_options(options, format_, USERS)
        assert refused.value.fields == {name: [message]}
