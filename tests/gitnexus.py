"""The GitNexus browser client, as far as capsules go.

It sends excerpts instead of whole files: for each of a file's first symbols, the symbol's lines and 20 more on both
sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec

MAX_EXCERPTS = 10
CONTEXT_LINES = 20
HEAD_LINES = 220
SEPARATOR = "\n\n...\n\n"
TRUNCATED = "...[truncated]"
DEFAULT_LIMIT = 400


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


class GitNexusClient:
    """The GitNexus browser client: every call is made by `fetch`, so that a subclass can watch them.

    Args:
        http: has the service's address and the key.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @contextmanager
    def fetch(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """Make one call; the body of its response is read by the caller."""
        with self._http.stream(method, path, headers=headers, content=content) as response:
            yield response

    def start(self, graph: dict[str, Any], **headers: str) -> dict[str, Any]:
        """Send a graph, with excerpts instead of whole files."""
        body = msgspec.json.encode(with_excerpts(graph))
        return self._json("POST", "/v1/exports", headers={"Content-Type": "application/json", **headers}, content=body)

    def status(self, job_id: str) -> dict[str, Any]:
        """Ask how far a job is."""
        return self._json("GET", f"/v1/exports/{job_id}")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        return self._json("DELETE", f"/v1/exports/{job_id}")

    def stream(self, job_id: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """Follow a job's events: the stream is split on two line feeds, as nothing else ends an event."""
        path = f"/v1/exports/{job_id}/events/stream?sinceSeq={since}"
        with self.fetch("GET", path, headers={"Accept": "text/event-stream"}) as response:
            response.raise_for_status()
            buffer = ""
            for text in response.iter_text():
                *blocks, buffer = (buffer + text).split("\n\n")
                for block in blocks:
                    data = [line[5:].strip() for line in block.split("\n") if line.startswith("data:")]
                    if data:
                        yield json.loads("\n".join(data))

    def log(self, job_id: str, limit: int = DEFAULT_LIMIT) -> Iterator[dict[str, Any]]:
        """Page through a job's log until a page is empty; the client takes `nextSeq` for that of the next event."""
        since = 0
        while True:
            page = self._json("GET", f"/v1/exports/{job_id}/events?sinceSeq={since}&limit={limit}")
            if not page["events"]:
                return
            yield from page["events"]
            since = max(0, page["nextSeq"] - 1)

    def download(self, job: dict[str, Any]) -> bytes:
        """Fetch a completed job's capsule."""
        with self.fetch("GET", job["artifact"]["downloadUrl"]) as response:
            return response.raise_for_status().read()

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self.fetch(method, path, **options) as response:
            response.read()
            return dict(response.raise_for_status().json())
