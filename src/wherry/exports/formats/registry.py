"""Every format of an artifact there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wherry.errors import UnsupportedFormat
from wherry.exports.formats.csv import CSV
from wherry.exports.formats.json import JSON
from wherry.exports.formats.model import Format
from wherry.exports.formats.mv2 import MV2
from wherry.exports.formats.ndjson import NDJSON

FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in (NDJSON, JSON, CSV, MV2)})

PAGE_FORMATS: Mapping[str, Format] = MappingProxyType({each.name: each for each in (NDJSON, JSON)})
"""Those that a page can be sent in."""


def find_format(name: object, among: Mapping[str, Format] = FORMATS) -> Format:
    """The format of that name, in any case, or the first format if no name is given.

    Raises:
        Invalid: there is no such format; the message lists those there are.
    """
    if name is None:
        return next(iter(among.values()))
    found = among.get(name.strip().lower()) if isinstance(name, str) else None
    if found is None:
        raise UnsupportedFormat(f"format must be one of {', '.join(among)}", field="format")
    return found
