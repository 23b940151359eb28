from __future__ import annotations

import msgspec

from wherry.memvid.frame import bounded, record_frames
from wherry.memvid.safe_text import restore


def test_too_many_properties_for_a_reader_are_folded_into_one() -> None:
    many = {str(index): index for index in range(20_000)}
    assert bounded(many) == {"properties": many}


def test_records_become_frames_with_their_id_in_the_uri() -> None:
    record = {"id": 7, "title": "\u241b \ud800", "body": "%PDF-1.4", "tags": ["x"], "published_at": None}
    (made,) = record_frames("articles", ["id"], "title", [record])
    assert (made.uri, made.track, made.labels) == ("mv2://articles/7", "articles", ["articles"])
    assert restore(made.title) == record["title"]
    assert restore(made.text) == 'id: 7\ntitle: \u241b \ud800\nbody: %PDF-1.4\ntags: ["x"]'
    msgspec.msgpack.encode(made.text)


def test_a_reference_is_known_by_its_key() -> None:
    record = {"title": {"name": "a b"}, "user": {"email": "a@x"}, "n": 1}
    (made,) = record_frames("seats", ["user", "n"], "title", [record])
    assert (made.uri, made.title) == ("mv2://seats/a@x/1", "a b")
    assert (made.text, made.metadata) == ('title: {"name":"a b"}\nuser: {"email":"a@x"}\nn: 1', record)
