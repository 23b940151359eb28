from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.capsules.makers import body, edge, node
from wherry.capsules import json_chunks
from wherry.capsules.graph import CapsuleOptions
from wherry.capsules.graph_frames import graph_frames
from wherry.capsules.reading import open_graph, read_graph
from wherry.errors import Invalid, Malformed
from wherry.memvid.safe_text import restore


def encoded(**changes: Any) -> bytes:
    return msgspec.json.encode({**body(), **changes})


def test_the_required_fields_are_enough() -> None:
    read = read_graph(encoded(nodes=[{"id": "a", "label": "Function"}]))
    (only,) = read.nodes
    assert only.name == "a"
    assert read.options == CapsuleOptions()


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
    _, second = read.nodes
    assert second.property("odd") == {"deep": [1, None]}
    assert second.name == "Function:a.py:f"


def test_it_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(encoded())
    assert open_graph(path).session_id == "s-1"


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
    with pytest.raises(Invalid, match=r'at \$\.fileContents\["a.py"\]'):
        open_graph(path)


@pytest.mark.parametrize("chunk_bytes", [1, 50, 1000])
def test_a_place_counts_from_the_beginning_whatever_the_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(json_chunks, "CHUNK_BYTES", chunk_bytes)
    for changes, place in (
        ({"nodes": [*([node()] * 9), {"id": "a"}]}, r"nodes\[9\]$"),
        ({"relationships": [*([edge()] * 9), edge(confidence="high")]}, r"relationships\[9\]\.confidence$"),
        ({"fileContents": {**{f"{n}.py": "x" for n in range(9)}, "9.py": []}}, r'fileContents\["9.py"\]$'),
    ):
        with pytest.raises(Invalid, match=place):
            read_graph(encoded(**changes))


def test_bytes_that_are_no_text_have_no_place() -> None:
    # The decoder counts within the string, which tells nobody anything.
    with pytest.raises(Malformed, match=r"^the body is not UTF-8: invalid start byte$"):
        read_graph(encoded().replace(b"demo", b"de\xffmo"))


@pytest.mark.parametrize("name", [False, 0, 1.5, ["a", None], {"b": True}])
def test_a_name_that_is_no_string_is_shown_as_json(name: object) -> None:
    read = read_graph(encoded(nodes=[node(name=name)]))
    (only,) = read.nodes
    assert json.loads(only.name) == name


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
    for read in (lambda: read_graph(file.read_bytes()), lambda: open_graph(file)):
        if changes:
            with pytest.raises(Invalid, match=r"at \$\.nodes\[0\]"):
                read()
        else:
            assert list(graph_frames(read())) == list(graph_frames(read_graph(encoded())))


def test_a_path_that_is_not_utf8_is_refused_however_long_its_content_is() -> None:
    data = encoded(fileContents={"PATH": "x" * 1_200_000}).replace(b"PATH", b"b\xff")
    with pytest.raises(Malformed, match="not UTF-8"):
        read_graph(data)


def test_the_first_of_many_faulty_files_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        read_graph(encoded(fileContents={f"f{number}.py": ["x" * 50, "y"] for number in range(2000)}))
    assert list(refused.value.fields) == ['fileContents["f0.py"]']
