"""Parses requests for imports, and converts them to and from what a job stores. Nothing here does I/O."""

from __future__ import annotations

import codecs
import hashlib
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import asdict

from wherry.errors import Invalid, UnsupportedFormat
from wherry.imports.models import ImportOptions
from wherry.imports.readers import FORMATS
from wherry.imports.readers.json import JSON
from wherry.imports.readers.ndjson import NDJSON
from wherry.jobs.models import Job
from wherry.tables.model import Table

COMPRESSIONS = (".gz", ".zst")
_FORMAT_OF_EXTENSION = {extension: each.name for each in FORMATS.values() for extension in each.extensions}
_FORMAT_OF_TYPE = {content_type: each.name for each in FORMATS.values() for content_type in each.content_types}
CONTENT_TYPES = frozenset(
    {"text/plain", "application/gzip", "application/zstd"}.union(*(each.content_types for each in FORMATS.values()))
)
"""Content types of uploads that are accepted whatever the file's name is."""

_CHARSETS = frozenset(
    {"ascii", "utf-16", "utf-16-le", "utf-16-be", "koi8-r", "koi8-u", "mac-roman", "shift_jis", "euc_jp", "euc_kr"}
    | {
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "cp437",
        "cp850",
        "cp852",
        "cp858",
        "cp866",
        "cp874",
        "cp932",
        "cp949",
        "cp950",
    }
    | {f"cp{number}" for number in range(1250, 1259)}
    | {f"iso8859-{number}" for number in range(1, 17) if number != 12}
)
"""The encodings of csv files that a content type may name, as Python's codecs call them."""

UNSUPPORTED_CONTENT_TYPE = "Unsupported content type"
EMPTY_UPLOAD = "Uploaded file is empty"
"""Clients of the older service match these two messages word for word."""

DETECT_FORMAT = "detectFormat"
"""The option that marks a job whose format has to be detected, once the URL's content has been fetched."""

CALLER_ROLE = "callerRole"
"""The option with the role that the owner had when the import was requested, and may have lost since."""

_DEFAULTS = asdict(ImportOptions())
_FIRST_OPTIONS = ("on_conflict", "dry_run", "atomic")
"""The options that every fingerprint contains. Others came later; unless they are used, fingerprints stay the same."""

TABLE = "table"
"""The option with the name of a table that is not built in: the resource may name another table one day."""


class ImportSource(msgspec.Struct, rename="camel", frozen=True):
    """Where an import's bytes are stored, or will be. `sha256` and `file_size` are None until they are known.

    `content_type` is that of an upload, and is only used to determine its format. `charset` is the encoding of a csv
    file that is not in UTF-8.
    """

    key: str
    file_name: str | None = None
    file_size: int | None = None
    sha256: str | None = None
    url: str | None = None
    content_type: str | None = None
    charset: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As stored with the job."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name != "contentType"}


def source_key(job_id: UUID) -> str:
    """The key under which an import's source is stored."""
    return f"{job_id}/source"


def parse_format(explicit: object, source: ImportSource, options: ImportOptions) -> str | None:
    """The requested format, else that of the file name, else that of the content type, else ndjson.

    None if it depends on the content: for `.json` files, for `application/json`, and for a URL without an extension.

    Raises:
        Invalid: on `format`: there is no such format, or it contradicts the file's name.
    """
    extension = extension_of(source.file_name)
    if explicit is None or explicit == "":
        implied = _implied_format(extension, source)
        return JSON.name if implied is None and options.records_at is not None else implied
    name = explicit.strip().lower() if isinstance(explicit, str) else None
    if name not in FORMATS:
        raise UnsupportedFormat(f"format must be one of {', '.join(FORMATS)}", field="format")
    if extension is not None and _FORMAT_OF_EXTENSION[extension] != name:
        raise Invalid(f"format {name} does not match file extension ({extension})", field="format")
    return name


def _implied_format(extension: str | None, source: ImportSource) -> str | None:
    if extension is not None:
        implied = _FORMAT_OF_EXTENSION[extension]
    elif source.url is not None:
        return None
    else:
        implied = _FORMAT_OF_TYPE.get(media_type(source.content_type), NDJSON.name)
    return None if implied == JSON.name else implied  # such files may be ndjson, too


def extension_of(file_name: str | None) -> str | None:
    """The extension that names a file's format, such as `.json` in `a.json.gz`, or None."""
    name = (file_name or "").lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((extension for extension in _FORMAT_OF_EXTENSION if name.endswith(extension)), None)


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
            f"{UNSUPPORTED_CONTENT_TYPE}: file must be {', '.join(FORMATS)}, plain or compressed with gzip or zstd",
            fields={"file": [UNSUPPORTED_CONTENT_TYPE]},
        )


def parse_charset(charset: str | None) -> str | None:
    """The encoding of a csv file, by the `charset` of its content type; None if it is UTF-8 or not given.

    Raises:
        UnsupportedFormat: on `file`: there is no such encoding.
    """
    name = (charset or "utf-8").strip().lower()
    try:
        found = codecs.lookup("cp874" if name == "windows-874" else name).name
    except LookupError:
        found = ""
    if found == "utf-8":
        return None
    if found not in _CHARSETS:
        message = f"charset {name[:100]} is not supported; use utf-8, utf-16, windows-1252, iso-8859-1 or the like"
        raise UnsupportedFormat(message, field="file")
    return found


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
    format: str,
    options: ImportOptions,
    *,
    sha256: str | None = None,
    url: str | None = None,
    charset: str | None = None,
) -> str:
    """A digest of everything that is requested. An idempotency key cannot be reused with another fingerprint."""
    given = asdict(options)
    asked = {
        "resource": table.name,
        **_table_options(table),
        "format": format,
        **{name: value for name, value in given.items() if name in _FIRST_OPTIONS or value != _DEFAULTS[name]},
        **({"charset": charset} if charset else {}),
        "sha256": sha256,
        "url": url,
    }
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
