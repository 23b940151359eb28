"""A code graph of wherry's own source, as GitNexus sends one to `POST /v1/exports`.

Nodes are files, classes, functions and methods; relationships are DEFINES, HAS_METHOD and CALLS. Lines count from 0.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Node = dict[str, Any]
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def own_graph() -> dict[str, Any]:
    """The graph of the package that is running."""
    root = Path(__file__).parents[1]
    files = {str(file.relative_to(root.parent)): file.read_text("utf-8") for file in sorted(root.rglob("*.py"))}
    builder = _Builder()
    for path, text in files.items():
        builder.add_file(path, text)
    return {
        "sessionId": "wherry-demo",
        "projectName": "wherry",
        "source": {"type": "folder", "baseName": "wherry", "displayName": "wherry", "folderName": "wherry"},
        "nodes": builder.nodes,
        "relationships": [*builder.relationships, *builder.calls()],
        "fileContents": files,
    }


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.relationships: list[Node] = []
        self._by_name: dict[str, str] = {}
        self._called: list[tuple[str, str]] = []

    def add_file(self, path: str, text: str) -> None:
        file_id = f"File:{path}"
        self.nodes.append({"id": file_id, "label": "File", "properties": {"name": Path(path).name, "filePath": path}})
        self._add_definitions(ast.parse(text), file_id, path, "DEFINES")

    def _add_definitions(self, parent: ast.AST, parent_id: str, path: str, relation: str) -> None:
        for item in ast.iter_child_nodes(parent):
            if not isinstance(item, _DEFINITIONS):
                continue
            is_class = isinstance(item, ast.ClassDef)
            label = "Class" if is_class else "Method" if relation == "HAS_METHOD" else "Function"
            node_id = f"{label}:{path}:{item.name}:{item.lineno}"
            self.nodes.append({"id": node_id, "label": label, "properties": _properties(item, path)})
            self.relationships.append(_relationship(relation, parent_id, node_id, confidence=1.0, reason=""))
            self._by_name.setdefault(item.name, node_id)
            self._called += ((node_id, name) for name in _called_names(item))
            if is_class:
                self._add_definitions(item, node_id, path, "HAS_METHOD")

    def calls(self) -> Iterator[Node]:
        """Calls of functions of this package, matched by name only, and therefore with a confidence of 0.5."""
        for source, name in dict.fromkeys(self._called):
            target = self._by_name.get(name)
            if target is not None:
                yield _relationship("CALLS", source, target, confidence=0.5, reason="same name")


def _relationship(kind: str, source: str, target: str, *, confidence: float, reason: str) -> Node:
    return {
        "id": f"{kind}:{source}->{target}",
        "type": kind,
        "sourceId": source,
        "targetId": target,
        "confidence": confidence,
        "reason": reason,
    }


def _properties(item: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, path: str) -> Node:
    return {
        "name": item.name,
        "filePath": path,
        "startLine": item.lineno - 1,
        "endLine": (item.end_lineno or item.lineno) - 1,
        "language": "python",
        "isExported": not item.name.startswith("_"),
        "description": ast.get_docstring(item),
    }


def _called_names(item: ast.AST) -> Iterator[str]:
    for node in ast.walk(item):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr
