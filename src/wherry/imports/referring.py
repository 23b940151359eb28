"""Decodes clean records that name rows of other tables by their keys: `"supplier": {"email": "a@x"}`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple

from wherry.tables.derivation import UNREADABLE, references_of, shape_of
from wherry.tables.model import ReferenceField, Table

Keys: TypeAlias = tuple[Any, ...]
"""The keys that a record gives, in the order of `references_of`, and UNSET for others; empty if it gives none."""


class ReferringRecords:
    """Decodes clean records of a table that may name rows of others."""

    def __init__(self, table: Table) -> None:
        shape, references = shape_of(table), references_of(table)
        self._width = len(shape.places)
        self._absent = None if shape.null_is_absent else UNSET
        names = [*shape.places, *(each.name + each.key.name for each in references)]
        is_readable = not any(map(UNREADABLE.search, names))
        self._names = [f'"{each.name}"'.encode() for each in references]
        is_ascii = all(name.isascii() for name in self._names)
        # In JSON, a character of a name may be written as a number, and a slash with a backslash before it.
        self._escaped = re.compile(rb"\\(?:u00[0-7]|/)" if is_ascii else rb"\\[u/]")
        self._parts: list[tuple[int, int, type[Any], ReferenceField, bool]] = []
        self._wide = self._wide_decoder(table, references).decode if is_readable else None
        self._narrow = msgspec.defstruct(
            "Record", [(name, Any) for name in shape.record.__struct_fields__], frozen=True, gc=False
        )

    def may_have_keys(self, data: bytes) -> bool:
        """Whether a record may name rows by keys. It may do so by names with escaped characters, too."""
        for name in self._names:  # half as long as `any` takes
            if name in data:
                return True
        return b"\\" in data and self._escaped.search(data) is not None

    def decode(self, data: bytes) -> tuple[Any, Keys]:
        """A record, and its keys.

        Raises:
            ValueError: it has to be decoded field by field.
        """
        if self._wide is None:
            raise ValueError
        values = list(astuple(self._wide(data)))
        keys: list[Any] = [UNSET] * len(self._parts)
        has_keys = False
        for number, (place, given_at, kind, reference, is_required) in enumerate(self._parts):
            value = values[given_at]
            if value is self._absent:
                if is_required and values[place] is None:
                    raise ValueError
                continue
            if given_at != place and values[place] is not self._absent:
                raise ValueError
            if value.__class__ is kind:
                keys[number], has_keys = value.key, True
                keeps = reference.rule.keeps
                if keeps is not None and not keeps(value.key):
                    raise ValueError
                value = self._absent
            values[place] = value
        return self._narrow(*values[: self._width]), tuple(keys) if has_keys else ()

    def _wide_decoder(self, table: Table, references: Sequence[ReferenceField]) -> msgspec.json.Decoder[Any]:
        """Decodes the fields of a record, then those references that do not have the name of their column."""
        shape = shape_of(table)
        names = {attribute: name for name, attribute in shape.attributes.items()}
        types: dict[str, Any] = {each.name: each.type for each in msgspec.structs.fields(shape.record)}
        required = {each.name for each in shape.fields if each.required}
        defaults = {attribute: (self._absent,) for attribute, name in names.items() if name not in required}
        for number, reference in enumerate(references):
            column = shape.attributes[reference.column]
            kind, attribute, own = _key_type(reference), f"reference_{number}", types[column]
            if reference.name == reference.column:
                attribute, types[column] = column, own | kind
            else:
                types[column] = own | None if shape.null_is_absent else own
                types[attribute] = kind | None if reference.is_nullable or shape.null_is_absent else kind
                names[attribute] = reference.name
            defaults[column] = defaults[attribute] = (self._absent,)
            places = list(types)
            is_required = reference.column in required
            self._parts.append((places.index(column), places.index(attribute), kind, reference, is_required))
        record = msgspec.defstruct(
            "Record",
            [(name, annotation, *defaults.get(name, ())) for name, annotation in types.items()],
            rename=names,
            kw_only=True,
            frozen=True,
            gc=False,
        )
        return msgspec.json.Decoder(record)


def _key_type(reference: ReferenceField) -> Any:
    """The type of an object that has a key and nothing else."""
    return msgspec.defstruct(
        "Key",
        [("key", reference.rule.typed)],
        rename={"key": reference.key.name},
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )
