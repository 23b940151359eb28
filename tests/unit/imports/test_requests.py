"""What a request may ask for, and what its refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.errors import Invalid
from wherry.imports.models import Format, OnConflict, Options
from wherry.imports.requests import check_upload, fingerprint, job_options, parse_format, parse_options
from wherry.resources.articles import ARTICLES
from wherry.resources.users import USERS


@pytest.mark.parametrize(
    ("explicit", "name", "format"),
    [
        (None, None, "ndjson"),
        ("", "x.txt", "ndjson"),
        (None, "a.json", "json"),
        (None, "A.JSON.GZ", "json"),
        (None, "a.ndjson.zst", "ndjson"),
        (None, "a.jsonl", "ndjson"),
        ("json", None, "json"),
        ("json", "a.txt", "json"),
        ("ndjson", "a.jsonl.gz", "ndjson"),
    ],
)
def test_a_format_is_told_by_the_request_else_by_the_name(explicit: Any, name: str | None, format: str) -> None:
    assert parse_format(explicit, name) is Format(format)


@pytest.mark.parametrize(("explicit", "name"), [("xml", None), (5, None), ("JSON", None), ("json", "a.ndjson.gz")])
def test_a_format_that_is_none_or_contradicts_the_name_is_refused(explicit: Any, name: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        parse_format(explicit, name)
    assert list(refused.value.fields) == ["format"]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("x", "application/json"),
        ("x", "Text/Plain; charset=utf-8"),
        ("x.jsonl", "application/octet-stream"),
        ("x.json.zst", None),
        (None, "application/gzip"),
    ],
)
def test_an_upload_is_taken_by_its_type_or_its_name(name: str | None, content_type: str | None) -> None:
    check_upload(name, content_type)


@pytest.mark.parametrize(("name", "content_type"), [("x.csv", "text/csv"), (None, None), ("json", "image/png")])
def test_any_other_upload_is_refused(name: str | None, content_type: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        check_upload(name, content_type)
    assert list(refused.value.fields) == ["file"]


def test_options_are_read_from_forms_and_from_json() -> None:
    assert parse_options({}) == Options()
    form = {"onConflict": "update", "dryRun": "True", "atomic": "false"}
    assert parse_options(form) == Options(OnConflict.UPDATE, dry_run=True, atomic=False)
    assert parse_options({"onConflict": "skip", "dryRun": False, "atomic": True, "x": 1}) == Options(
        OnConflict.SKIP, dry_run=False, atomic=True
    )


def test_every_option_that_is_wrong_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse_options({"onConflict": "merge", "dryRun": "perhaps", "atomic": 1})
    assert list(refused.value.fields) == ["onConflict", "dryRun", "atomic"]


def test_a_fingerprint_tells_requests_apart_by_everything_that_they_ask() -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"resource": USERS},
        {"format": Format.JSON},
        {"options": Options(OnConflict.SKIP)},
        {"options": Options(dry_run=True)},
        {"options": Options(atomic=True)},
        {"sha256": "b"},
        {"sha256": None, "url": "a"},
    ]
    first = {"resource": ARTICLES, "format": Format.NDJSON, "options": Options(), "sha256": "a"}
    prints = [fingerprint(**{**first, **change}) for change in asked]
    assert len(set(prints)) == len(asked)
    assert prints[0] == fingerprint(**first)


def test_a_job_keeps_the_options_and_the_role() -> None:
    assert job_options(Options(OnConflict.SKIP, atomic=True), "user") == {
        "onConflict": "skip",
        "dryRun": False,
        "atomic": True,
        "callerRole": "user",
    }
