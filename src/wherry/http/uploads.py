"""The three ways to send an import's source: in a form, as the body, or by a URL.

    multipart/form-data                          `ImportForm`
    application/json, without `?resource=`       `ImportByUrl`
    a records file's type, with `?resource=…`    the file itself, with `ImportQuery`

The Structs describe what clients should send. Requests are parsed by hand, because the file is streamed, because every
fault must be reported in the wording of the contract, and because older clients may use other spellings.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from multipart import MultipartSegment

from wherry.accounts.models import Account
from wherry.accounts.quota import admission, admit, check_before_upload
from wherry.errors import Invalid, Refused, Unavailable, UnsupportedMedia
from wherry.http.deliveries import WEBHOOK_URL
from wherry.http.idempotency import idempotency_key
from wherry.http.multipart import FILE, read_form
from wherry.http.parameters import once, query_of, refuse_repeated, refuse_unknown
from wherry.http.requests import content_coding, has_body, json_within
from wherry.http.schemas import Binary, TableName
from wherry.http.security import AccountRequest
from wherry.http.services import Services
from wherry.imports.intake import RequestedImport
from wherry.imports.models import OnConflict, UnknownFields
from wherry.imports.options import check_options, parse_options
from wherry.imports.readers import FORMATS, FormatName
from wherry.imports.requests import (
    CONTENT_TYPES,
    UNSUPPORTED_CONTENT_TYPE,
    ImportSource,
    check_upload,
    parse_charset,
    parse_format,
    source_key,
)
from wherry.jobs.models import Job, new_job_id
from wherry.jobs.states import Kind
from wherry.storage.addresses import judge
from wherry.tables.registry import find_table, importable_by
from wherry.texts import whole_number

MAX_FORM_OVERHEAD = 1 << 20
MAX_JSON_BYTES = 1 << 20
MAX_FILE_NAME = 1024
ENCODINGS = ("gzip", "zstd")
NO_SOURCE = "source is missing: send a file in the form field `file`, or JSON with the `url` of a file"


IF_FILE = "If the body is the file itself: "
DRY_RUN = Meta(description="Check and report everything, but change nothing.")
ATOMIC = Meta(description="Import every record or none.")
ON_CONFLICT = Meta(description="What to do if another row already has a record's natural key.")
FORMAT = Meta(description="By default, detected from the file's name, content type or content.")
MAX_ERRORS = Meta(description="If more records than this have errors, the import stops and fails.")
UNKNOWN_FIELDS = Meta(description="What to do with fields that the table does not have.")
COLUMNS = Meta(description="csv only: the field of each header, or null for those to ignore, as a JSON object.")
RECORDS_AT = Meta(
    description="json only: where in the document its records are, as keys joined by dots, such as `entry.resource`."
)

Flag: TypeAlias = bool | Literal["true", "false"] | None
Text = TypeVar("Text", str, str | None)
Received: TypeAlias = tuple[RequestedImport, ImportSource]


class ImportForm(Struct, rename="camel"):
    """A file and what to do with its records."""

    file: Binary
    resource: TableName
    format: Annotated[FormatName | UnsetType, FORMAT] = UNSET
    on_conflict: Annotated[OnConflict | UnsetType, ON_CONFLICT] = UNSET
    dry_run: Annotated[bool | UnsetType, DRY_RUN] = UNSET
    atomic: Annotated[bool | UnsetType, ATOMIC] = UNSET
    max_errors: Annotated[int | UnsetType, MAX_ERRORS] = UNSET
    unknown_fields: Annotated[UnknownFields | UnsetType, UNKNOWN_FIELDS] = UNSET
    columns: Annotated[str | UnsetType, COLUMNS] = UNSET
    records_at: Annotated[str | UnsetType, RECORDS_AT] = UNSET
    webhook_url: Annotated[str | UnsetType, WEBHOOK_URL] = UNSET


class ImportByUrl(Struct, rename="camel"):
    """The URL of a file, which a worker downloads, and what to do with its records."""

    resource: TableName
    url: str
    format: Annotated[FormatName | None, FORMAT] = None
    on_conflict: Annotated[OnConflict | None, ON_CONFLICT] = None
    dry_run: Annotated[Flag, DRY_RUN] = None
    atomic: Annotated[Flag, ATOMIC] = None
    max_errors: Annotated[int | None, MAX_ERRORS] = None
    unknown_fields: Annotated[UnknownFields | None, UNKNOWN_FIELDS] = None
    columns: Annotated[dict[str, str | None] | None, COLUMNS] = None
    records_at: Annotated[str | None, RECORDS_AT] = None
    webhook_url: Annotated[str | None, WEBHOOK_URL] = None


class WrappedImportByUrl(Struct):
    """An import by URL, inside the member `import`."""

    import_: ImportByUrl = msgspec.field(name="import")


class ImportQuery(Struct, rename="camel"):
    """What to do with the records. `fileName` may be used only if the body is the file itself."""

    resource: Annotated[TableName | None, Meta(description=f"{IF_FILE}the resource of its records.")] = None
    format: Annotated[FormatName | None, FORMAT] = None
    on_conflict: Annotated[OnConflict | None, ON_CONFLICT] = None
    dry_run: Annotated[bool | None, DRY_RUN] = None
    atomic: Annotated[bool | None, ATOMIC] = None
    max_errors: Annotated[int | None, MAX_ERRORS] = None
    unknown_fields: Annotated[UnknownFields | None, UNKNOWN_FIELDS] = None
    columns: Annotated[str | None, COLUMNS] = None
    records_at: Annotated[str | None, RECORDS_AT] = None
    webhook_url: Annotated[str | None, WEBHOOK_URL] = None
    file_name: Annotated[str | None, Meta(description=f"{IF_FILE}its name, used to detect its format.")] = None


SMALL_BODY_BYTES = 1 << 16

FILE_FIELDS = tuple(each.encode_name for each in msgspec.structs.fields(ImportQuery))
FIELDS = FILE_FIELDS[:-1]


async def hand_in(request: AccountRequest, services: Services) -> tuple[Job, bool, dict[str, str]]:
    """Read the request, store its source and queue its job: `(job, replayed, headers)`.

    If no job was created, the source is removed again.

    Raises:
        Refused: the request is invalid; the message names the field.
    """
    key = idempotency_key(request, required=True)
    assert key is not None
    owner_id = request.user.id
    with services.uploads.counted(owner_id) as to_come:
        few = services.settings.import_concurrent_limit_user // 2
        if to_come > few or not _is_small(request):
            await check_before_upload(services.pool, Kind.IMPORT, owner_id, key, services.settings, to_come=to_come)
        return await _take_in(request, services, key)


def _is_small(request: AccountRequest) -> bool:
    """Whether it takes less to receive the body, even if its job is refused then, than to check this beforehand."""
    declared = whole_number(request.headers.get("Content-Length", ""))
    return declared is not None and declared <= SMALL_BODY_BYTES


async def _take_in(request: AccountRequest, services: Services, key: str) -> tuple[Job, bool, dict[str, str]]:
    job_id = new_job_id()
    may_be_queued = False
    try:
        asked, source = await _receive(request, services, job_id, key)
        if asked.format is None and source.url is None:
            asked = replace(asked, format=await services.intake.detect_format(source))
        may_be_queued = True
        async with admission(services.pool, Kind.IMPORT, asked.owner_id) as connection:
            job, replayed = await services.intake.queue(connection, job_id, asked, source)
            headers = {} if replayed else await admit(connection, Kind.IMPORT, asked.owner_id, services.settings)
    except BaseException as error:
        # If the response to COMMIT was lost, the job may exist, so its source is kept. If there is no such job,
        # retention removes the source.
        if not may_be_queued or isinstance(error, (Refused, Unavailable)):
            await services.intake.drop(job_id)
        raise
    if replayed:
        await services.intake.drop(job_id)
    return job, replayed, headers


async def _receive(request: AccountRequest, services: Services, job_id: UUID, key: str) -> Received:
    media_type = request.content_type[0].lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, services, job_id, key)
    if media_type == "application/json" and "resource" not in query_of(request):
        return await _from_url(request, services, job_id, key)
    if media_type in CONTENT_TYPES:
        return await _from_body(request, services, job_id, key)
    if not media_type and not has_body(request.headers):
        raise Invalid(NO_SOURCE, field="source")
    raise UnsupportedMedia(
        f"{UNSUPPORTED_CONTENT_TYPE}: use multipart/form-data, application/json, or the type of a records file"
    )


async def _asked(
    services: Services, fields: Mapping[str, Any], source: ImportSource, caller: Account, key: str
) -> RequestedImport:
    table = find_table(importable_by(await services.tables.current(), caller.role), fields.get("resource"))
    options = parse_options(fields)
    options = msgspec.structs.replace(options, webhook_url=services.webhook_urls.requested(options.webhook_url))
    if options.on_conflict is OnConflict.UPDATE and not table.is_updatable:
        message = f"onConflict cannot be update: wherry has no right to update {table.name}; use error or skip"
        raise Invalid(message, field="onConflict")
    format_ = parse_format(fields.get("format"), source, options)
    check_options(options, format_, table)
    return RequestedImport(
        table=table,
        format=format_,
        options=options,
        owner_id=caller.id,
        owner_role=caller.role,
        idempotency_key=key,
        webhook_url=services.webhook_urls.of_job(options.webhook_url),
    )


def _encoding(asked: RequestedImport, charset: str | None) -> str | None:
    """The encoding of a file if it is not UTF-8, by the `charset` that its content type names."""
    return parse_charset(charset) if asked.format and FORMATS[asked.format].any_encoding else None


async def _from_form(request: AccountRequest, services: Services, job_id: UUID, key: str) -> Received:
    content_coding(request)  # a form must not be compressed; the file in it may be
    query = _query(request, FIELDS)
    services.intake.check_declared((request.content_length or 0) - MAX_FORM_OVERHEAD)

    async def keep(segment: MultipartSegment, body: AsyncIterable[bytes]) -> ImportSource:
        check_upload(_file_name("file", segment.filename), segment.content_type)
        return await services.intake.keep(job_id, body, segment.filename, segment.content_type, segment.charset)

    fields, file = await read_form(request.stream(), request.content_type[1].get("boundary"), keep)
    refuse_unknown(fields, (*FIELDS, FILE))
    if file is None:
        raise Invalid(NO_SOURCE, field="source")
    given = {name: [*fields.get(name, []), *query.get(name, [])] for name in FIELDS}
    asked = await _asked(services, once(given, FIELDS), file, request.user, key)
    return asked, msgspec.structs.replace(file, charset=_encoding(asked, file.charset))


async def _from_body(request: AccountRequest, services: Services, job_id: UUID, key: str) -> Received:
    given = once(_query(request, FILE_FIELDS), FILE_FIELDS)
    name, content_type = _file_name("fileName", given.get("fileName")), request.content_type[0]
    # The query is checked before the body is read, so that a mistake in it costs no upload.
    asked = await _asked(services, given, ImportSource("", name, content_type=content_type), request.user, key)
    charset = _encoding(asked, request.content_type[1].get("charset"))
    content_coding(request, *ENCODINGS)  # which of them it is, the worker detects from the first bytes
    services.intake.check_declared(request.content_length)
    return asked, await services.intake.keep(job_id, request.stream(), name, content_type, charset)


async def _from_url(request: AccountRequest, services: Services, job_id: UUID, key: str) -> Received:
    options = once(_query(request, FIELDS), FIELDS)
    body = await json_within(request, MAX_JSON_BYTES)
    fields = body.get("import") if isinstance(body, dict) and isinstance(body.get("import"), dict) else body
    if not isinstance(fields, dict):
        raise Invalid("the body must be a JSON object", field="import")
    refuse_repeated(name for name in options if fields.get(name) not in (None, ""))
    url = fields.get("url")
    if url is None or url == "":
        raise Invalid(NO_SOURCE, field="source")
    if not isinstance(url, str):
        raise Invalid("url must be a string", field="url")
    url = judge(_storable("url", url), services.settings.import_allowed_hosts)
    name = urlsplit(url).path.rpartition("/")[2] or None
    source = ImportSource(source_key(job_id), name, url=url)
    return await _asked(services, {**fields, **options}, source, request.user, key), source


def _query(request: AccountRequest, known: Collection[str]) -> dict[str, list[str]]:
    """The query, which may contain options for every kind of body."""
    query = query_of(request)
    refuse_unknown(query, known)
    return query


def _file_name(field: str, name: str | None) -> str | None:
    if len(name or "") > MAX_FILE_NAME:
        raise Invalid(f"{field} must have a name of at most {MAX_FILE_NAME} characters", field=field)
    return _storable(field, name)


def _storable(field: str, text: Text) -> Text:
    if "\0" in (text or ""):
        raise Invalid(f"{field} must not contain the character U+0000, which PostgreSQL cannot store", field=field)
    return text
