"""What the GitNexus browser client does before and around a request for a capsule.

It sends excerpts instead of whole files: for each of a file's first symbols, the symbol's lines and 20 more on both
sides.
"""

from __future__ import annotations

from typing import Any

MAX_EXCERPTS = 10
CONTEXT_LINES = 20
HEAD_LINES = 220
SEPARATOR = "\n\n...\n\n"
TRUNCATED = "...[truncated]"


def with_excerpts(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph as the browser client sends it: `fileContents` holds excerpts."""
    by_file: dict[str, list[dict[str, Any]]] = {}
    for node in graph["nodes"]:
        by_file.setdefault(str((node.get("properties") or {}).get("filePath")), []).append(node)
    most = (graph.get("options") or {}).get("maxSnippetChars", 1200)
    contents = {
        path: excerpt(text, by_file.get(path, []), most) for path, text in (graph.get("fileContents") or {}).items()
    }
    return {**graph, "fileContents": contents}


def excerpt(text: str, nodes: list[dict[str, Any]], max_snippet_chars: int) -> str:
    """What the client sends of a file that has these nodes, in the order of the graph."""
    lines = text.split("\n")
    ranges = [(node["properties"].get("startLine"), node["properties"].get("endLine")) for node in nodes]
    known = [(start, end) for start, end in ranges if isinstance(start, int) and isinstance(end, int)]
    parts = [
        # startLine counts from 0, the client from 1: the first of the symbol's own lines is the 22nd, not the 21st.
        "\n".join(lines[max(1, start - CONTEXT_LINES) - 1 : end + CONTEXT_LINES]).strip()
        for start, end in known[:MAX_EXCERPTS]
    ]
    joined = SEPARATOR.join(filter(None, parts)) if known else "\n".join(lines[:HEAD_LINES])
    limit = max(2000, 3 * max_snippet_chars)
    return joined if len(joined) <= limit else joined[:limit] + TRUNCATED
