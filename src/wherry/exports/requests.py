"""Validates requests for exports: a JSON body for a job, or a query string for a page. Does not use the database."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.errors import Invalid
from wherry.exports.compression import find_compression
from wherry.exports.formats import PAGE_FORMATS, find_format
from wherry.exports.selection import Selection, parse_selection
from wherry.jobs.models import Job
from wherry.resources.rules import MAX_ID
from wherry.texts import whole_number

DEFAULT_PAGE_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A validated request for an export job."""

    selection: Selection
    format: str = "ndjson"
    compression: str | None = None
    escape_formulas: bool = True

    def options(self) -> dict[str, Any]:
        """The value of `jobs.options`, which `of_job` reads."""
        return {
            **self.selection.to_json(),
            "compression": self.compression,
            "csvEscapeFormulas": self.escape_formulas,
        }

    @property
    def fingerprint(self) -> str:
        """A digest of the whole request; it does not depend on how names and values were spelled."""
        parts = [self.selection.resource.name, self.format, self.options()]
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    @classmethod
    def of_job(cls, job: Job) -> ExportRequest:
        """The request that created a job."""
        return cls(
            selection=Selection.from_json(job.resource, job.options),
            format=job.format,
            compression=job.options["compression"],
            escape_formulas=job.options["csvEscapeFormulas"],
        )


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A validated request for a page: at most `limit` records with ids above `after`."""

    selection: Selection
    format: str
    limit: int
    after: int = 0


def parse_export(body: object) -> ExportRequest:
    """Validate the body of a request for a job, which may be wrapped in `{"export": …}`. Ignores unknown members.

    Raises:
        Invalid: on the first invalid member.
    """
    if isinstance(body, Mapping) and isinstance(body.get("export"), Mapping):
        body = body["export"]
    if not isinstance(body, Mapping):
        raise Invalid("the body must be a JSON object", field="export")
    selection = parse_selection(body.get("resource"), body.get("filters"), body.get("fields"))
    chosen = find_format(body.get("format"))
    selection = selection.including(chosen.needed_fields)
    compression = find_compression(body.get("compression"))
    escape = body.get("csvEscapeFormulas")
    if escape is not None and not isinstance(escape, bool):
        raise Invalid("csvEscapeFormulas must be true or false", field="csvEscapeFormulas")
    return ExportRequest(
        selection=selection,
        format=chosen.name,
        compression=None if compression is None else compression.name,
        escape_formulas=escape is not False,
    )


def parse_page(query: Mapping[str, Sequence[str]], filters: object = None, *, max_limit: int) -> PageRequest:
    """Validate the query of a request for a page.

    Args:
        query: all values of each parameter: `resource`, and optionally `format`, `limit`, `cursor` and `fields`. Only
            `fields` may be repeated.
        filters: a JSON object or its text, or None for no filters.
        max_limit: the highest `limit`.

    Raises:
        Invalid: on the first invalid parameter.
    """
    fields = list(query.get("fields") or ()) or None
    return PageRequest(
        selection=parse_selection(_single(query, "resource"), filters, fields),
        format=find_format(_single(query, "format"), PAGE_FORMATS).name,
        limit=_number(query, "limit", 1, max_limit, min(DEFAULT_PAGE_LIMIT, max_limit)),
        after=_number(query, "cursor", 0, MAX_ID, 0),
    )


def _single(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    given = query.get(name) or ()
    if len(given) > 1:
        raise Invalid(f"{name} must be given once", field=name)
    return given[0] if given else None


def _number(query: Mapping[str, Sequence[str]], name: str, least: int, most: int, default: int) -> int:
    text = _single(query, name)
    if text is None:
        return default
    number = whole_number(text)
    if number is None or not least <= number <= most:
        raise Invalid(f"{name} must be an integer from {least} to {most}", field=name)
    return number
