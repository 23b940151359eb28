from __future__ import annotations

from typing import Any

import pytest

from tests.unit.capsules.makers import edge, graph, node
from wherry.capsules import graph_frames as graph_frames_module
from wherry.capsules.graph_frames import graph_frames
from wherry.capsules.snippets import NO_SOURCE
from wherry.memvid.frame import Frame

CODE = "zero\n  one\n\n\tthree\nfour"


def only_node(properties: dict[str, Any], content: str | None = CODE, label: str = "Function", **more: Any) -> Frame:
    made = node("n", label, filePath="a.py", **properties)
    return next(graph_frames(graph([made], fileContents={"a.py": content}, **more)))


def snippet(made: Frame) -> str:
    return made.text.split("\n\n", 1)[1]


def test_a_graph_gives_nodes_then_relationships_then_the_manifest() -> None:
    made = list(graph_frames(graph([node("a"), node("b")], [edge()])))
    assert [frame.uri for frame in made] == [
        "mv2://nodes/a",
        "mv2://nodes/b",
        "mv2://relations/r1",
        "mv2://meta/manifest",
    ]
    assert made == list(graph_frames(graph([node("a"), node("b")], [edge()])))


@pytest.mark.parametrize(
    ("label", "uri", "track"),
    [
        ("Function", "mv2://nodes/n", "nodes/Function"),
        ("Sprocket", "mv2://nodes/n", "nodes/Sprocket"),
        ("File", "mv2://nodes/n", "files"),
        ("Community", "mv2://communities/n", "communities"),
        ("Process", "mv2://processes/n", "processes"),
    ],
)
def test_a_label_decides_uri_track_and_tags(label: str, uri: str, track: str) -> None:
    made = only_node({"name": "thing"}, label=label)
    assert (made.uri, made.track, made.title) == (uri, track, f"{label}: thing")
    assert made.tags == ["source=gitnexus", f"nodeLabel={label}", "sessionId=s-1"]


def test_a_nodes_metadata_holds_every_property() -> None:
    properties = {"name": "x", "filePath": "a.py", "odd": {"deep": [1, None]}, "startLine": 1}
    assert next(graph_frames(graph([node("n", **properties)]))).metadata == properties


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, "zero"),
        (1, 3, "  one\n\n\tthree"),
        (3, 99, "\tthree\nfour"),
        (-1, 2, NO_SOURCE),
        (3, 1, NO_SOURCE),
        (99, 100, NO_SOURCE),
        (None, 2, NO_SOURCE),
        ("1", "2", NO_SOURCE),
        (True, True, NO_SOURCE),
    ],
)
def test_a_snippet_is_its_lines_counted_from_zero_both_ends_included(start: Any, end: Any, expected: str) -> None:
    assert snippet(only_node({"startLine": start, "endLine": end})) == expected


def test_a_file_shows_its_first_lines_and_another_node_without_lines_shows_none() -> None:
    content = "\n".join(str(index) for index in range(200))
    assert snippet(only_node({}, content, "File")) == "\n".join(str(index) for index in range(80))
    assert snippet(only_node({"startLine": 7, "endLine": 3}, content, "File")).startswith("0\n1\n")
    for label in ("Function", "Route", "Folder", "Community", "Process"):
        assert snippet(only_node({}, content, label)) == NO_SOURCE


@pytest.mark.parametrize(("asked", "kept"), [(100, 100), (5, 80), (0, 80), (None, 1200)])
def test_a_long_snippet_is_cut_and_says_so(asked: int | None, kept: int) -> None:
    made = only_node({"startLine": 0, "endLine": 0}, "x" * 5000, options={"maxSnippetChars": asked})
    assert snippet(made) == "x" * kept + f"\n… [cut: first {kept} of 5000 characters]"


def test_what_is_no_string_is_shown_as_json() -> None:
    made = node(name="x", filePath=["a"], description={"a": True}, keywords=["a", 1, None, False])
    lines = next(graph_frames(graph([made]))).text.split("\n")
    assert lines[2:5] == ['file: ["a"]', 'description: {"a":true}', "keywords: a, 1, null, false"]


def test_a_snippet_is_found_however_far_down_and_however_often_the_file_changes() -> None:
    contents = {f"{name}.py": "\n".join(f"{name}{line}" for line in range(300)) for name in "abcdefgh"}
    nodes = [
        node(f"{name}{line}", filePath=f"{name}.py", startLine=line, endLine=line + length)
        for line, length in ((0, 1), (1, 62), (62, 2), (63, 0), (64, 64), (127, 130), (298, 5), (299, 0))
        for name in "abcdefgh"
    ]
    made = graph_frames(graph(nodes, fileContents=contents, options={"maxSnippetChars": 9000}))
    for given, frame in zip(nodes, made, strict=False):
        properties = given["properties"]
        lines = contents[properties["filePath"]].split("\n")[properties["startLine"] : properties["endLine"] + 1]
        assert snippet(frame) == "\n".join(lines)


@pytest.mark.parametrize("content", [None, ""])
def test_a_node_without_source_says_so(content: str | None) -> None:
    assert snippet(only_node({}, content)) == NO_SOURCE
    assert snippet(next(graph_frames(graph([node(filePath=None)])))) == NO_SOURCE


def test_a_repeated_id_gets_a_number_behind_its_uri() -> None:
    made = graph_frames(graph([node("a"), node("a"), node("a#2"), node("a")], [edge("r"), edge("r")]))
    assert [frame.uri.split("/", 3)[3] for frame in made] == ["a", "a#2", "a#2#2", "a#3", "r", "r#2", "manifest"]


def test_a_relationship_names_both_ends() -> None:
    ends = [node("a", name="f"), node("a", name="other"), node("b", "Class", name="C")]
    made = list(graph_frames(graph(ends, [edge(confidence=0.98765, reason="import", step=2)])))[3]
    assert made.title == "f CALLS C"
    assert made.text.split("\n") == [
        "f CALLS C",
        "source: f (Function)",
        "target: C (Class)",
        "type: CALLS",
        "confidence: 0.988",
        "reason: import",
        "step: 2",
    ]
    assert made.track == "relations/CALLS"
    assert made.tags == ["source=gitnexus", "relationType=CALLS", "sessionId=s-1"]
    assert made.metadata == {"sourceId": "a", "targetId": "b", "confidence": 0.98765, "reason": "import", "step": 2}


def test_a_dangling_end_is_unknown_and_absent_figures_have_defaults() -> None:
    made = list(graph_frames(graph([node("a", name="f")], [edge(target="gone")])))[1]
    assert made.title == "f CALLS <unknown>"
    assert "target: <unknown> (<unknown>)\ntype: CALLS\nconfidence: 1.000\nreason: " in made.text


def test_limits_take_the_first_and_the_manifest_counts_both() -> None:
    nodes = [node(str(index), "File" if index % 2 else "Function") for index in range(6)]
    edges = [edge(str(index), source="5") for index in range(4)]
    made = list(graph_frames(graph(nodes, edges, options={"maxNodeFrames": 3, "maxRelationFrames": 1})))
    assert [frame.uri for frame in made[:-1]] == [
        "mv2://nodes/0",
        "mv2://nodes/1",
        "mv2://nodes/2",
        "mv2://relations/0",
    ]
    assert "source: 5 (File)" in made[3].text, "an end that has no frame of its own is still known"
    manifest = made[-1]
    assert manifest.title == "GitNexus manifest: demo"
    assert manifest.tags == ["source=gitnexus", "kind=manifest", "sessionId=s-1"]
    assert "nodes: 3 of 6\n  File: 1 of 3\n  Function: 2 of 3\nrelationships: 1 of 4\n  CALLS: 1 of 4" in manifest.text
    assert manifest.metadata["nodes"]["by"]["File"] == {"exported": 1, "total": 3}
    assert manifest.metadata["writtenBy"]["memvidSdk"] == "2.0.160"


def test_a_zero_limit_leaves_the_manifest() -> None:
    made = list(graph_frames(graph(options={"maxNodeFrames": 0, "maxRelationFrames": 0})))
    assert [frame.uri for frame in made] == ["mv2://meta/manifest"]


def test_more_frames_than_a_capsule_can_hold_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_frames_module, "MOST_FRAMES", 3)
    made = list(graph_frames(graph([node(str(n)) for n in range(9)])))
    assert [frame.uri for frame in made] == [*(f"mv2://nodes/{n}" for n in range(4)), "mv2://meta/manifest"]
    assert "nodes: 9 of 9" in made[-1].text


@pytest.mark.parametrize("limit", [("EDGES_AT_ONCE", 7), ("CHARACTERS_AT_ONCE", 100)], ids=["edges", "characters"])
def test_both_ends_are_known_in_every_batch_of_relationships(
    monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]
) -> None:
    monkeypatch.setattr(graph_frames_module, *limit)
    nodes = [node(str(n), name=f"f{n}") for n in range(50)]
    edges = [edge(str(n), source=str(n), target=str(49 - n)) for n in range(50)]
    titles = [frame.title for frame in graph_frames(graph(nodes, edges)) if "/relations/" in frame.uri]
    assert titles == [f"f{n} CALLS f{49 - n}" for n in range(50)]
