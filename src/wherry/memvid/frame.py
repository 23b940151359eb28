"""A frame: the unit of a capsule that is searched and read. Also turns records into frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from wherry.memvid.safe_text import guard, make_safe

# The reader rejects frames with more than 16,384 entries; well below that, `bounded` nests them under one name.
MAX_METADATA = 1000


class Frame(msgspec.Struct, array_like=True, omit_defaults=True):
    """One frame. Every string must be a safe text (see `safe_text`).

    Args:
        uri: unique within the capsule.
        title: one line, shown by readers.
        text: the content; reads back byte for byte.
        track: the group that the frame belongs to, with `/` between levels.
        kind: the type of the frame, in one word.
        tags: words to filter by; by convention ``key=value``.
        labels: words to filter by.
        metadata: JSON values by name.
        name: the name that the frame defines; a search for it ranks this frame above those that only mention it.
        search_text: indexed instead of title, text and uri.
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
    """Makes the URIs of one capsule unique: the second frame with the same URI gets the suffix `#2`, and so on."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, uri: str) -> str:
        """The URI itself if it is new, otherwise with the first of the suffixes `#2`, `#3` … that is free."""
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
    """The metadata itself, or nested under the single name `properties` if it has too many names for a reader."""
    return dict(metadata) if len(metadata) <= MAX_METADATA else {"properties": dict(metadata)}


def record_frames(
    resource: str, key: Sequence[str], title_field: str, records: Iterable[Mapping[str, Any]]
) -> Iterator[Frame]:
    """One frame per record: URI ``mv2://{resource}/{key}``, one line of text per field, the record as metadata.

    Args:
        resource: the resource's name, which is also the track and the label.
        key: the fields that name a record, which the URI separates by `/`.
        title_field: the field used as the title; if it is empty, the key is used.
        records: mappings with the key's fields and JSON values.
    """
    uris = Uris()
    for record in records:
        title, name = _named(record.get(title_field)), "/".join(str(_named(record[field])) for field in key)
        lines = (f"{field}: {as_text(value)}" for field, value in record.items() if value is not None)
        yield Frame(
            uri=uris.unique(f"mv2://{resource}/{name}"),
            title=make_safe(str(title if title not in (None, "") else name)),
            text=guard(make_safe("\n".join(lines))),
            track=resource,
            tags=["source=wherry", f"resource={resource}"],
            labels=[resource],
            metadata=bounded(record),
        )


def _named(value: Any) -> Any:
    """What a URI or a title has of a value. A reference is an object with one value: the key of the row it names."""
    return next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value


def as_text(value: Any) -> str:
    """A JSON value as text: a string as is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
