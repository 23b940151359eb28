"""The formats that records can be exported in: a module for each, and this list of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wherry.errors import UnsupportedFormat
from wherry.exports.formats.csv import CSV
from wherry.exports.formats.json import JSON, NDJSON
from wherry.exports.formats.model import ExportFormat
from wherry.exports.formats.mv2 import MV2

FORMATS: Mapping[str, ExportFormat] = MappingProxyType({each.name: each for each in (NDJSON, JSON, CSV, MV2)})

PAGE_FORMATS: Mapping[str, ExportFormat] = MappingProxyType({each.name: each for each in (NDJSON, JSON)})
"""The formats that a page can be in."""


def find_format(name: object, among: Mapping[str, ExportFormat] = FORMATS) -> ExportFormat:
    """The format with that name, in any case, or the first format if no name is given.

    Raises:
        Invalid: no such format; the message lists the formats.
    """
    if name is None:
        return next(iter(among.values()))
    found = among.get(name.strip().lower()) if isinstance(name, str) else None
    if found is None:
        raise UnsupportedFormat(f"format must be one of {', '.join(among)}", field="format")
    return found
