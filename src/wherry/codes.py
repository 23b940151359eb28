"""The codes of refused requests, beside those of `errors.ErrorCode`, and what each says; `/openapi.json` lists both."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wherry.errors import ErrorCode

PROBLEM_CODES: Mapping[str, str] = MappingProxyType(
    {
        "API_KEY_NOT_CONFIGURED": "no key is set for the capsule routes",
        "ARTIFACT_MISSING": "the capsule is past its time, or was deleted",
        "ARTIFACT_NOT_READY": "the capsule is not completed",
        "BAD_REQUEST": "the request cannot be read",
        "BUSY": "too many passwords are being checked",
        "CAPSULE_TOO_LARGE": "the frames do not fit a capsule",
        "CONFLICT": "the state does not allow it",
        "EXPORT_FAILED": "the capsule could not be made",
        "GONE": "it was there, and is past its time",
        "HEAD_TOO_LARGE": "the address and the header fields are too long",
        "IDEMPOTENCY_KEY_REUSED": "the key was used for a different request",
        "INVALID_CREDENTIALS": "no account has this address and this password",
        "INVALID_EXPORT_REQUEST": "the graph has no node, or no relationship",
        "JOB_FINISHED": "the job has come to an end and cannot be cancelled",
        "LINK_EXPIRED": "the password link was used, or is past its time",
        "MALFORMED_JSON": "the body is not JSON",
        "METHOD_NOT_ALLOWED": "this address does not take this method",
        "MIGRATIONS_PENDING": "the database has not been migrated",
        "MISDIRECTED_REQUEST": "the server is not the host that the request names",
        "NOT_FOUND": "there is nothing at this address",
        "NOT_READY": "there is nothing to download yet",
        "NO_ERRORS": "the import has no error to report",
        "PASSWORD_ALREADY_SET": "the account has a password",
        "PASSWORD_NOT_SET": "the account was imported, and has no password yet",
        "PAYLOAD_TOO_LARGE": "the body is too large, or takes too much memory",
        "PRECONDITION_FAILED": "the file is not the one that If-Match names",
        "QUEUE_UNAVAILABLE": "as many capsule jobs wait as may",
        "RANGE_NOT_SATISFIABLE": "no byte of the file lies within the range",
        "REQUEST_TIMEOUT": "the body came too slowly",
        "UNAVAILABLE": "try again later",
        "UNSUPPORTED_MEDIA_TYPE": "this address does not read that type or coding",
        "USER_NOT_FOUND": "no account has this id",
        "VALIDATION_FAILED": "a field is missing or not what it must be; `errors` names it",
    }
)

ALL_CODES = tuple(sorted({*PROBLEM_CODES, *ErrorCode.__members__}))
"""Whatever a client can be shown."""
