"""One frame of a capsule: the unit that a reader finds, and reads.

In: a node, a relationship, a record, anything with an address and a text. Out: a `Frame`, ready to be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from wherry.memvid.safe_text import guard, make_safe

# The reader refuses more than 16,384 entries in one frame; far below that they are folded into one.
MAX_METADATA = 1000


class Frame(msgspec.Struct, array_like=True, omit_defaults=True):
    """What is written. Every string must be a safe text (see `safe_text`).

    Args:
        uri: the frame's address, unique within its capsule.
        title: one line that a reader shows.
        text: what the frame says; read back byte for byte.
        track: the group that it belongs to, with `/` between levels.
        kind: a word for what it is.
        tags: words to filter by; by custom ``key=value``.
        labels: words to filter by.
        metadata: names to JSON values.
        name: what the frame defines; a search for it finds the frame before those that mention it.
        search_text: what is searched instead of title, text and uri.
    """

    uri: str
    title: str
    text: str
    track: str | None = None
    kind: str | None = None
    tags: list[str] = []
    labels: list[str] = []
    metadata: dict[str, Any] = {}
    name: str | None = None
    search_text: str | None = None


class Uris:
    """Gives every frame of one capsule an address of its own: an id's second frame gets `#2` behind it, and so on."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, uri: str) -> str:
        """The uri itself, or with the first `#2`, `#3` … behind it that is free."""
        if uri not in self._seen:
            self._seen[uri] = 1
            return uri
        count = self._seen[uri] + 1
        while (candidate := f"{uri}#{count}") in self._seen:
            count += 1
        self._seen[uri] = count
        self._seen[candidate] = 1
        return candidate


def bounded(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata itself, or all of it under the one name `properties` where it has too many names for a reader."""
    return dict(metadata) if len(metadata) <= MAX_METADATA else {"properties": dict(metadata)}


def record_frames(resource: str, title_field: str, records: Iterable[Mapping[str, Any]]) -> Iterator[Frame]:
    """One frame a record: uri ``mv2://{resource}/{id}``, the text one line a field, the metadata the record itself.

    Args:
        resource: the resource's name, which is also the track and the label.
        title_field: the field that a reader is shown; the id stands in where it is empty.
        records: mappings with an `id` and JSON values.
    """
    uris = Uris()
    for record in records:
        title = record.get(title_field)
        lines = (f"{name}: {shown(value)}" for name, value in record.items() if value is not None)
        yield Frame(
            uri=uris.unique(f"mv2://{resource}/{record['id']}"),
            title=make_safe(str(title if title not in (None, "") else record["id"])),
            text=guard(make_safe("\n".join(lines))),
            track=resource,
            tags=["source=wherry", f"resource={resource}"],
            labels=[resource],
            metadata=bounded(record),
        )


def shown(value: Any) -> str:
    """A JSON value as a reader sees it: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
