from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.capsules.makers import body, edge, node
from wherry.capsules.graph import read_graph
from wherry.errors import Invalid, Malformed
from wherry.memvid.safe_text import restore


def encoded(**changes: Any) -> bytes:
    return msgspec.json.encode({**body(), **changes})


def test_the_required_fields_are_enough() -> None:
    read = read_graph(encoded(nodes=[{"id": "a", "label": "Function"}]))
    assert read.nodes is not None
    assert read.nodes[0].name == "a"
    assert read.options is None


def test_everything_optional_may_be_null_and_anything_unknown_is_kept() -> None:
    read = read_graph(
        encoded(
            source={"type": "zip", "baseName": "x", "url": None, "colour": "red"},
            nodes=[{"id": "a", "label": "Sprocket", "properties": None}, node(name=None, odd={"deep": [1, None]})],
            relationships=[edge(type="WHIRRS", confidence=None, reason=None, step=None)],
            fileContents={"a.py": None},
            options={
                "semanticEnabled": None,
                "maxNodeFrames": None,
                "maxSnippetChars": None,
                "maxRelationFrames": None,
            },
            more=1,
        )
    )
    assert read.nodes is not None
    assert read.nodes[1].property("odd") == {"deep": [1, None]}
    assert read.nodes[1].name == "Function:a.py:f"


def test_it_reads_a_memory_map(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(encoded())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert read_graph(mapped).session_id == "s-1"


@pytest.mark.parametrize("name", ["nodes", "relationships"])
@pytest.mark.parametrize("value", [[], None])
def test_a_graph_without_nodes_or_relationships_is_refused_with_its_code(name: str, value: object) -> None:
    with pytest.raises(Malformed) as refused:
        read_graph(encoded(**{name: value}))
    assert (refused.value.status, refused.value.code) == (400, "INVALID_EXPORT_REQUEST")
    assert name in refused.value.fields


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"nodes": [node(), {"id": 3, "label": "x"}]}, "nodes[1].id"),
        ({"nodes": [{"id": "a"}]}, "nodes[0]"),
        ({"relationships": [{"id": "r", "sourceId": "a", "targetId": "b"}]}, "relationships[0]"),
        ({"source": {"type": "zip"}}, "source"),
        ({"sessionId": None}, "sessionId"),
        ({"options": {"maxNodeFrames": -1}}, "options.maxNodeFrames"),
        ({"fileContents": {"a.py": "x", "src/b.py": None, 'c"[0].py': 3}}, 'fileContents["c\\"[0].py"]'),
        ({"nodes": 3 * [node()] + [node(a=1, b=[{"x": {}}, 12345])]}, 'nodes[3].properties["b"][1]'),
        ({"nodes": [node(deep={"a": {"b": [0, 12345]}})]}, 'nodes[0].properties["deep"]["a"]["b"][1]'),
    ],
)
def test_a_wrong_shape_is_refused_naming_the_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_graph(encoded(**changes).replace(b"12345", b"1e999"))
    assert refused.value.status == 422
    assert list(refused.value.fields) == [place]


def test_a_wrong_shape_in_a_mapped_file_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(encoded(fileContents={"a.py": 3}))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with pytest.raises(Invalid, match=r'at \$\.fileContents\["a.py"\]'):
            read_graph(mapped)


def test_bytes_that_are_no_text_have_no_place() -> None:
    # The decoder counts within the string, which tells nobody anything.
    with pytest.raises(Malformed, match=r"^the body is not UTF-8: invalid start byte$"):
        read_graph(encoded().replace(b"demo", b"de\xffmo"))


@pytest.mark.parametrize("name", [False, 0, 1.5, ["a", None], {"b": True}])
def test_a_name_that_is_no_string_is_shown_as_json(name: object) -> None:
    read = read_graph(encoded(nodes=[node(name=name)]))
    assert read.nodes is not None
    assert json.loads(read.nodes[0].name) == name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"sessionId": "\xff"}',
        b'{"nodes": [{"id": "a", "label": "b", "properties": {"x": ' + b"[" * 100_000,
    ],
    ids=len,
)
def test_what_is_not_json_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read_graph(data)
    assert refused.value.status == 400


def test_a_body_that_is_json_but_no_object_is_of_the_wrong_shape() -> None:
    with pytest.raises(Invalid, match=r"at \$"):
        read_graph(b"[]")


@given(st.text(st.characters(exclude_categories=[])), st.text("\ud800\udc00\u241b\\u241BdD8", max_size=12))
def test_any_text_survives_the_reading(text: str, hostile: str) -> None:
    # The standard library spells lone surrogates as JSON can, which UTF-8 cannot.
    for meant in (text, hostile, hostile + text):
        data = json.dumps({**body(), "projectName": meant}).encode()
        meaning = json.loads(data)["projectName"]
        assert restore(read_graph(data).project_name) == meaning


@pytest.mark.parametrize("changes", [{}, {"nodes": [{"id": 1}]}], ids=["sound", "faulty"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(b"\xef\xbb\xbf" + encoded(**changes))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for data in (file.read_bytes(), mapped):
            if changes:
                with pytest.raises(Invalid, match=r"at \$\.nodes\[0\]"):
                    read_graph(data)
            else:
                assert read_graph(data) == read_graph(encoded())
