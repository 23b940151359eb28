"""Parses requests for imports, and converts them to and from what a job stores. Nothing here does I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import asdict

from wherry.errors import Invalid, UnsupportedFormat
from wherry.imports.models import ImportFormat, ImportOptions, OnConflict
from wherry.jobs.models import Job
from wherry.tables.model import Table

FORMAT_OF_EXTENSION = {".json": ImportFormat.JSON, ".ndjson": ImportFormat.NDJSON, ".jsonl": ImportFormat.NDJSON}
COMPRESSIONS = (".gz", ".zst")
CONTENT_TYPES = frozenset(
    {
        "application/json",
        "application/ndjson",
        "application/x-ndjson",
        "application/jsonl",
        "text/plain",
        "text/json",
        "application/gzip",
        "application/zstd",
    }
)
"""Content types of uploads that are accepted whatever the file's name is."""

UNSUPPORTED_CONTENT_TYPE = "Unsupported content type"
EMPTY_UPLOAD = "Uploaded file is empty"
"""Clients of the older service match these two messages word for word."""

JSON_TYPES = frozenset({"application/json", "text/json"})
"""Content types that are used for arrays as well as for ndjson."""

DETECT_FORMAT = "detectFormat"
"""The option that marks a job whose format has to be detected, once the URL's content has been fetched."""

CALLER_ROLE = "callerRole"
"""The option with the role that the owner had when the import was requested, and may have lost since."""

TABLE = "table"
"""The option with the name of a table that is not built in: the resource may name another table one day."""

_WORDS = {"true": True, "false": False}


class ImportSource(msgspec.Struct, rename="camel", frozen=True):
    """Where an import's bytes are stored, or will be. `sha256` and `file_size` are None until they are known.

    `content_type` is that of an upload, and is only used to determine its format.
    """

    key: str
    file_name: str | None = None
    file_size: int | None = None
    sha256: str | None = None
    url: str | None = None
    content_type: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As stored with the job."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name != "contentType"}


def source_key(job_id: UUID) -> str:
    """The key under which an import's source is stored."""
    return f"{job_id}/source"


def parse_format(explicit: object, source: ImportSource) -> ImportFormat | None:
    """The requested format, else that of the file name, else that of the content type, else ndjson.

    None if it depends on the content: for `.json` files, for `application/json`, and for a URL without an extension.

    Raises:
        Invalid: on `format`: there is no such format, or it contradicts the file's name.
    """
    extension = extension_of(source.file_name)
    if explicit is None or explicit == "":
        return _implied_format(extension, source)
    name = explicit.strip().lower() if isinstance(explicit, str) else None
    if name not in tuple(ImportFormat):
        raise UnsupportedFormat(f"format must be one of {', '.join(ImportFormat)}", field="format")
    requested = ImportFormat(name)
    if extension is not None and FORMAT_OF_EXTENSION[extension] is not requested:
        raise Invalid(f"format {requested} does not match file extension ({extension})", field="format")
    return requested


def _implied_format(extension: str | None, source: ImportSource) -> ImportFormat | None:
    if extension is not None:
        implied = FORMAT_OF_EXTENSION[extension]
        return None if implied is ImportFormat.JSON else implied
    if source.url is not None or media_type(source.content_type) in JSON_TYPES:
        return None
    return ImportFormat.NDJSON


def extension_of(file_name: str | None) -> str | None:
    """The extension that names a file's format, such as `.json` in `a.json.gz`, or None."""
    name = (file_name or "").lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in FORMAT_OF_EXTENSION if name.endswith(extension)), None)


def media_type(content_type: str | None) -> str:
    """A content type without its parameters, in lower case."""
    return (content_type or "").partition(";")[0].strip().lower()


def check_upload(file_name: str | None, content_type: str | None) -> None:
    """Check that the content type or the file name of an upload is supported.

    Raises:
        UnsupportedFormat: on `file`: neither is.
    """
    if media_type(content_type) not in CONTENT_TYPES and extension_of(file_name) is None:
        raise UnsupportedFormat(
            f"{UNSUPPORTED_CONTENT_TYPE}: file must be JSON or ndjson, plain or compressed with gzip or zstd",
            fields={"file": [UNSUPPORTED_CONTENT_TYPE]},
        )


def parse_options(fields: Mapping[str, object]) -> ImportOptions:
    """Parse `onConflict`, `dryRun` and `atomic`, which may be missing, from form fields or JSON members.

    Raises:
        Invalid: on every invalid field.
    """
    faults: dict[str, list[str]] = {}
    on_conflict = fields.get("onConflict")
    choices = tuple(OnConflict)
    if on_conflict in (None, ""):
        on_conflict = OnConflict.ERROR
    elif on_conflict not in choices:
        faults["onConflict"] = [f"onConflict must be one of {', '.join(choices)}"]
    flags = {name: _flag(fields.get(name)) for name in ("dryRun", "atomic")}
    faults |= {name: [f"{name} must be true or false"] for name, flag in flags.items() if flag is None}
    if faults:
        raise Invalid(next(iter(faults.values()))[0], fields=faults)
    return ImportOptions(OnConflict(str(on_conflict)), bool(flags["dryRun"]), bool(flags["atomic"]))


def _flag(value: object) -> bool | None:
    if value is None or value == "":
        return False
    return value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())


def job_options(
    options: ImportOptions, caller_role: str, table: Table | None = None, *, format_is_known: bool = True
) -> dict[str, Any]:
    """The options as stored with the job, together with the owner's role and, unless it is built in, the table."""
    detect = {} if format_is_known else {DETECT_FORMAT: True}
    known = {} if table is None else _table_options(table)
    return {**msgspec.to_builtins(options), **detect, **known, CALLER_ROLE: caller_role}


def table_option(table: Table) -> str | None:
    """The name by which a job finds its table again; None for built-in tables."""
    return None if table.is_built_in else str(table.relation)


def _table_options(table: Table) -> dict[str, str]:
    name = table_option(table)
    return {} if name is None else {TABLE: name}


def options_of(job: Job) -> ImportOptions:
    """The options that are stored with a job."""
    return msgspec.convert(job.options, ImportOptions)


def fingerprint(
    table: Table,
    format: ImportFormat,
    options: ImportOptions,
    *,
    sha256: str | None = None,
    url: str | None = None,
) -> str:
    """A digest of everything that is requested. An idempotency key cannot be reused with another fingerprint."""
    asked = {
        "resource": table.name,
        **_table_options(table),
        "format": format,
        **asdict(options),
        "sha256": sha256,
        "url": url,
    }
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
