"""The formats of import files: a module for each, and this list of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, TypeAlias

from msgspec import Meta

from wherry.imports.readers.csv import CSV
from wherry.imports.readers.json import JSON
from wherry.imports.readers.model import RecordsFormat
from wherry.imports.readers.ndjson import NDJSON

FORMATS: Mapping[str, RecordsFormat] = MappingProxyType({each.name: each for each in (NDJSON, JSON, CSV)})

FormatName: TypeAlias = Annotated[str, Meta(extra_json_schema={"title": "ImportFormat", "enum": sorted(FORMATS)})]
"""The name of a format, in the API's schema."""
