"""Validates requests for exports: a JSON body for a job, or a query string for a page. Does not use the database."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.errors import Invalid
from wherry.exports.compression import find_compression
from wherry.exports.filters import is_storable
from wherry.exports.formats import PAGE_FORMATS, find_format
from wherry.exports.selection import Selection, parse_selection, require_targets
from wherry.jobs.models import Job
from wherry.tables.model import Table
from wherry.tables.registry import TablesByName, find_table
from wherry.texts import whole_number

DEFAULT_PAGE_LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A validated request for an export job."""

    selection: Selection
    format: str = "ndjson"
    compression: str | None = None
    escape_formulas: bool = False
    webhook_url: str | None = None

    def options(self) -> dict[str, Any]:
        """The value of `jobs.options`, which `of_job` reads."""
        table = self.selection.table
        return {
            **({} if table.is_built_in else {"table": str(table.relation)}),
            **self.selection.to_json(),
            "compression": self.compression,
            "csvEscapeFormulas": self.escape_formulas,
            **({} if self.webhook_url is None else {"webhookUrl": self.webhook_url}),
        }

    @property
    def fingerprint(self) -> str:
        """A digest of the whole request; it does not depend on how names and values were spelled."""
        parts = [self.selection.table.name, self.format, self.options()]
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    @classmethod
    def of_job(cls, job: Job, table: Table) -> ExportRequest:
        """The request that created a job, for its table as it is now.

        Raises:
            Invalid: the resource is another table, or no longer has a field or a filter of the request.
        """
        if job.options.get("table") != (None if table.is_built_in else str(table.relation)):
            raise Invalid(f"{table.name} is another table now", field="resource")
        return cls(
            selection=Selection.from_json(table, job.options),
            format=job.format,
            compression=job.options["compression"],
            escape_formulas=job.options["csvEscapeFormulas"],
            webhook_url=job.options.get("webhookUrl"),
        )


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A validated request for a page: at most `limit` records after the one with the key `after`, as text."""

    selection: Selection
    format: str
    limit: int
    after: tuple[str, ...] | None = None


def parse_export(body: object, tables: TablesByName) -> ExportRequest:
    """Validate the body of a request for a job, which may be wrapped in `{"export": …}`. Ignores unknown members.

    Whether webhooks may be sent to its `webhookUrl` is left to the caller.

    Args:
        body: decoded JSON.
        tables: those that may be exported.

    Raises:
        Invalid: on the first invalid member.
        Forbidden: on `references`; see `require_targets`.
    """
    if isinstance(body, Mapping) and isinstance(body.get("export"), Mapping):
        body = body["export"]
    if not isinstance(body, Mapping):
        raise Invalid("the body must be a JSON object", field="export")
    table = find_table(tables, body.get("resource"))
    selection = parse_selection(table, body.get("filters"), body.get("fields"), body.get("references"))
    require_targets(selection, tables.values())
    chosen = find_format(body.get("format"))
    if chosen.needs_key:
        if not table.key:
            raise Invalid(f"format {chosen.name} needs a key, but {table.name} has none", field="format")
        selection = selection.including_key()
    compression = find_compression(body.get("compression"))
    escape = body.get("csvEscapeFormulas")
    if escape is not None and not isinstance(escape, bool):
        raise Invalid("csvEscapeFormulas must be true or false", field="csvEscapeFormulas")
    webhook_url = body.get("webhookUrl")
    if webhook_url is not None and not isinstance(webhook_url, str):
        raise Invalid("webhookUrl must be a string", field="webhookUrl")
    return ExportRequest(
        selection=selection,
        format=chosen.name,
        compression=None if compression is None else compression.name,
        escape_formulas=escape is True,
        webhook_url=webhook_url or None,
    )


def parse_page(
    query: Mapping[str, Sequence[str]], tables: TablesByName, filters: object = None, *, max_limit: int
) -> PageRequest:
    """Validate the query of a request for a page.

    Args:
        query: all values of each parameter: `resource`, and optionally `format`, `limit`, `cursor`, `references` and
            `fields`. Only `fields` may be repeated.
        tables: those that may be exported.
        filters: a JSON object or its text, or None for no filters.
        max_limit: the highest `limit`.

    Raises:
        Invalid: on the first invalid parameter.
        Forbidden: on `references`; see `require_targets`.
    """
    fields, references = list(query.get("fields") or ()) or None, _single(query, "references")
    table = find_table(tables, _single(query, "resource"))
    if not table.key:
        raise Invalid(f"{table.name} has no key, so it has no pages; export it as a file", field="resource")
    selection = parse_selection(table, filters, fields, references)
    require_targets(selection, tables.values())
    return PageRequest(
        selection=selection,
        format=find_format(_single(query, "format"), PAGE_FORMATS).name,
        limit=_number(query, "limit", 1, max_limit, min(DEFAULT_PAGE_LIMIT, max_limit)),
        after=_read_cursor(table, query),
    )


def make_cursor(table: Table, key: tuple[str, ...]) -> int | str:
    """The cursor of the page after the record with this key: the key itself if it is one integer, otherwise opaque.

    Raises:
        Invalid: a view's key is null, so that no page can come after it.
    """
    if None in key:
        raise Invalid(f"the key of {table.name} has null, so it has no pages; export it as a file", field="resource")
    if table.has_integer_key:
        return int(key[0])
    return urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _read_cursor(table: Table, query: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    text = _single(query, "cursor")
    if text is None:
        return None
    if table.has_integer_key:
        schema = table.key_columns[0].type.schema
        return (str(_number(query, "cursor", min(0, schema["minimum"]), schema["maximum"], 0)),)
    try:
        key = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=tuple[str, ...])
    except (ValueError, RecursionError):
        key = ()
    if len(key) != len(table.key) or not all(map(is_storable, key)):
        raise Invalid("cursor must be the nextCursor of the previous page", field="cursor")
    return key


def _single(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    given = query.get(name) or ()
    if len(given) > 1:
        raise Invalid(f"{name} must be given once", field=name)
    return given[0] if given else None


def _number(query: Mapping[str, Sequence[str]], name: str, least: int, most: int, default: int) -> int:
    text = _single(query, name)
    if text is None:
        return default
    number = whole_number(text.removeprefix("-") if least < 0 else text, len(str(most)))
    if number is not None and text.startswith("-"):
        number = -number
    if number is None or not least <= number <= most:
        raise Invalid(f"{name} must be an integer from {least} to {most}", field=name)
    return number
