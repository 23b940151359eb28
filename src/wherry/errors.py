"""Every exception of wherry, and every code that a client can see.

The tree is as follows; an error is caught by the class that says what to do about it.

WherryError
├── RequestError       ends a request with a problem response
│   ├── Refused        the caller's fault (4xx): one subclass per status, below it one per further code
│   ├── Unavailable    try again later (503)
│   └── InternalError  a bug (500)
├── JobFailed          ends a job as failed
├── JobCancelled, JobReleased, LeaseLost    end a run in another way
├── Misconfigured      the program does not start
└── further down: what one module raises and another handles
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar


class ErrorCode(IntEnum):
    """Codes of a record, a file or a job, as clients see them (`errorCode`, `errorName`)."""

    MISSING_REQUIRED_FIELD = 1001
    INVALID_FIELD_TYPE = 1002
    INVALID_FIELD_FORMAT = 1003
    FIELD_TOO_LONG = 1004
    FIELD_TOO_SHORT = 1005
    INVALID_ENUM_VALUE = 1006
    DUPLICATE_VALUE = 1007
    INVALID_REFERENCE = 1008
    CIRCULAR_REFERENCE = 1009
    FILE_TOO_LARGE = 2001
    UNSUPPORTED_FORMAT = 2002
    FILE_READ_ERROR = 2003
    FILE_WRITE_ERROR = 2004
    URL_FETCH_FAILED = 2005
    URL_NOT_ALLOWED = 2006
    EMPTY_FILE = 2007
    TOO_MANY_RECORDS = 2008
    PARSE_ERROR = 3001
    INVALID_RECORD_STRUCTURE = 3002
    BATCH_FAILED = 3003
    STREAM_ERROR = 3004
    ENCODING_ERROR = 3005
    JOB_NOT_FOUND = 4001
    UNAUTHORIZED = 4002
    FORBIDDEN = 4003
    RATE_LIMITED = 4004
    CONCURRENT_LIMIT = 4005
    DOWNLOAD_EXPIRED = 4006
    UNSUPPORTED_RESOURCE = 4007
    DATABASE_ERROR = 5001
    STORAGE_ERROR = 5002
    QUEUE_ERROR = 5003
    INTERNAL_ERROR = 5004
    TIMEOUT = 5005


class WherryError(Exception):
    """Base of the tree; never raised itself."""


class RequestError(WherryError):
    """Ends a request with a problem response.

    A subclass declares its status and code. Its docstring is the sentence that `/openapi.json` has for the code.

    Args:
        detail: one sentence that names what is wrong.
        field: the request field that is at fault, if there is one; `detail` becomes its message.
        fields: several fields with their messages, instead of `field`.
        headers: response headers, beside those of the class.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    default_headers: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None) -> None:
        super().__init_subclass__()
        if status is not None:
            cls.status = status
        if code is not None:
            cls.code = code

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        fields: Mapping[str, Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}
        if field is not None:
            self.fields.setdefault(field, []).append(detail)
        self.headers = {**self.default_headers, **(headers or {})}

    @classmethod
    def tree(cls) -> Iterator[type[RequestError]]:
        """The class and everything below it."""
        yield cls
        for child in cls.__subclasses__():
            yield from child.tree()


class Refused(RequestError):
    """The caller's fault. Each direct subclass has its own status."""


class Malformed(Refused, status=400, code="BAD_REQUEST"):
    """The request cannot be read."""


class MalformedJson(Malformed, code="MALFORMED_JSON"):
    """The body is not JSON."""


class EmptyGraph(Malformed, code="INVALID_EXPORT_REQUEST"):
    """The graph has no nodes, or no relationships."""


class Unauthenticated(Refused, status=401, code=ErrorCode.UNAUTHORIZED.name):
    """The token is missing or invalid."""

    default_headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class Forbidden(Refused, status=403, code=ErrorCode.FORBIDDEN.name):
    """The caller may not do this."""


class InvalidCredentials(Forbidden, code="INVALID_CREDENTIALS"):
    """The e-mail address or the password is wrong."""


class PasswordNotSet(Forbidden, code="PASSWORD_NOT_SET"):
    """The account was imported and has no password yet."""


class NotFound(Refused, status=404, code="NOT_FOUND"):
    """There is no such thing, or it belongs to somebody else."""


class JobNotFound(NotFound, code=ErrorCode.JOB_NOT_FOUND.name):
    """There is no such job, or it belongs to somebody else."""


class NoErrors(NotFound, code="NO_ERRORS"):
    """The import has no errors."""


class UserNotFound(NotFound, code="USER_NOT_FOUND"):
    """There is no active account with this id."""


class MethodNotAllowed(Refused, status=405, code="METHOD_NOT_ALLOWED"):
    """The route does not support the method; `Allow` lists those it does."""


class RequestTimeout(Refused, status=408, code="REQUEST_TIMEOUT"):
    """The body arrived too slowly."""


class Conflict(Refused, status=409, code="CONFLICT"):
    """The current state does not allow this."""


class JobFinished(Conflict, code="JOB_FINISHED"):
    """The job has ended and cannot be cancelled."""


class JobNotRetryable(Conflict, code="JOB_NOT_RETRYABLE"):
    """The job has not ended, or another run would not end differently."""


class NotReady(Conflict, code="NOT_READY"):
    """The export has no artifact yet."""


class CapsuleNotReady(Conflict, code="ARTIFACT_NOT_READY"):
    """The capsule is not completed."""


class PasswordAlreadySet(Conflict, code="PASSWORD_ALREADY_SET"):
    """The account already has a password."""


class Gone(Refused, status=410, code="GONE"):
    """It has expired or was deleted."""


class DownloadExpired(Gone, code=ErrorCode.DOWNLOAD_EXPIRED.name):
    """The artifact has expired or was deleted."""


class CapsuleGone(Gone, code="ARTIFACT_MISSING"):
    """The capsule has expired or was deleted."""


class LinkExpired(Gone, code="LINK_EXPIRED"):
    """The password link was already used or has expired."""


class PreconditionFailed(Refused, status=412, code="PRECONDITION_FAILED"):
    """The file is not the one that `If-Match` names."""


class TooLarge(Refused, status=413, code=ErrorCode.FILE_TOO_LARGE.name):
    """The file or the body is too large."""


class GraphTooLarge(TooLarge, code="PAYLOAD_TOO_LARGE"):
    """The graph is too large, or takes too much memory or time to check."""


class UnsupportedMedia(Refused, status=415, code="UNSUPPORTED_MEDIA_TYPE"):
    """The route does not read this Content-Type or Content-Encoding."""


class RangeNotSatisfiable(Refused, status=416, code="RANGE_NOT_SATISFIABLE"):
    """The range is outside the file."""


class Misdirected(Refused, status=421, code="MISDIRECTED_REQUEST"):
    """The request was sent to another host's name."""


class Invalid(Refused, status=422, code="VALIDATION_FAILED"):
    """A field is missing or invalid; `errors` names it."""


class KeyReused(Invalid, code="IDEMPOTENCY_KEY_REUSED"):
    """The idempotency key was already used for a different request."""


class UnsupportedResource(Invalid, code=ErrorCode.UNSUPPORTED_RESOURCE.name):
    """There is no such resource."""


class UnsupportedFormat(Invalid, code=ErrorCode.UNSUPPORTED_FORMAT.name):
    """The format or the type of the file is not supported."""


class EmptyFile(Invalid, code=ErrorCode.EMPTY_FILE.name):
    """The file is empty."""


class UrlNotAllowed(Invalid, code=ErrorCode.URL_NOT_ALLOWED.name):
    """Requests may not be sent to this URL."""


class LimitReached(Refused, status=429, code=ErrorCode.RATE_LIMITED.name):
    """Too many requests; try again after `Retry-After` seconds."""

    default_headers = MappingProxyType({"Retry-After": "5"})


class ConcurrentLimit(LimitReached, code=ErrorCode.CONCURRENT_LIMIT.name):
    """Too many unfinished jobs, or too many connections."""


class HeadTooLarge(Refused, status=431, code="HEAD_TOO_LARGE"):
    """The URL and the header fields are too long."""


class InternalError(RequestError, status=500, code=ErrorCode.INTERNAL_ERROR.name):
    """A bug; the server's log has the details under the response's `requestId`."""


class Unavailable(RequestError, status=503, code="UNAVAILABLE"):
    """Try again after `Retry-After` seconds."""

    default_headers = MappingProxyType({"Retry-After": "5"})


class Busy(Unavailable, code="BUSY"):
    """Too many passwords are being checked."""


class DatabaseUnavailable(Unavailable, code=ErrorCode.DATABASE_ERROR.name):
    """The database does not respond, or is locked."""


class MigrationsPending(Unavailable, code="MIGRATIONS_PENDING"):
    """The database has not been migrated to this version."""


class StorageUnavailable(Unavailable, code=ErrorCode.STORAGE_ERROR.name):
    """The storage does not respond, or is full."""


class TimedOut(Unavailable, code=ErrorCode.TIMEOUT.name):
    """A check did not end in time."""


class QueueUnavailable(Unavailable, code="QUEUE_UNAVAILABLE"):
    """The capsule queue is full, or the graph could not be checked."""


class KeyNotConfigured(Unavailable, code="API_KEY_NOT_CONFIGURED"):
    """The server has no key for the capsule routes."""

    default_headers = MappingProxyType({"Retry-After": "60"})


class DataDirectoryInUse(Unavailable):
    """Another process uses the data directory."""


class JobFailed(WherryError):
    """Ends a job as failed, with a code and a message that its owner sees.

    Args:
        code: an `ErrorCode`, or for capsules the name of a capsule error.
        message: one sentence for the owner.
        detail: figures that go with it, shown in the job's error.
    """

    def __init__(self, code: ErrorCode | str, message: str, *, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code.name if isinstance(code, ErrorCode) else code
        self.number = int(code) if isinstance(code, ErrorCode) else None
        self.message = message
        self.detail = dict(detail or {})

    @classmethod
    def by(cls, error: Unavailable) -> JobFailed:
        """The failure of a job that gives up on an unavailable storage."""
        return cls(ErrorCode.STORAGE_ERROR, error.detail[:1].upper() + error.detail[1:])

    @classmethod
    def by_capsule(cls, error: CapsuleFailed) -> JobFailed:
        """The failure of a job whose capsule could not be written."""
        return cls(error.code, error.message, detail=error.detail)


EXPORT_FAILED = "EXPORT_FAILED"
CAPSULE_TOO_LARGE = "CAPSULE_TOO_LARGE"
"""The codes of failed capsule jobs."""


class JobCancelled(WherryError):
    """A cancel was requested, and the runner has stopped at a checkpoint."""


class JobReleased(WherryError):
    """The worker is stopping, or lost the database: the job goes back to the queue, to go on from its checkpoint."""


class SendingFailed(WherryError):
    """A request to a URL that a caller has chosen was not sent; the code says why."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DeliveryFailed(WherryError):
    """A webhook was not delivered, and will be sent again after `retry_seconds`."""

    def __init__(self, message: str, *, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class LeaseLost(WherryError):
    """Another worker has claimed the job: stop, and write nothing more."""


class Misconfigured(WherryError):
    """A setting is missing or invalid; the message says what it must be."""


class BrokenJson(WherryError):
    """A file, or a record in it, is not valid JSON; the message says where."""


class SnapshotStopped(WherryError):
    """`Snapshot.stop` was called while its rows were being read."""


class CapsuleFailed(WherryError):
    """A capsule could not be written.

    Args:
        message: one sentence for the job's owner.
        detail: figures that go with it.
    """

    code = EXPORT_FAILED

    def __init__(self, message: str, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class TooManyFrames(CapsuleFailed):
    """The frames do not fit a capsule; the detail has their number, and how many would fit."""

    code = CAPSULE_TOO_LARGE


class DoesNotFit(WherryError):
    """The frames exceed a capsule's capacity; the argument is how many of the first fit together with the last."""


class SpoolFull(WherryError):
    """The frames exceed the spool's size limit."""


class WayFailed(WherryError):
    """This way of writing a capsule does not work; another may."""


class VerificationFailed(WherryError):
    """The capsule that was written is damaged or incomplete."""


class RequestFailed(WherryError):
    """The service answered the command line's request with an error."""


CODES: tuple[str, ...] = tuple(
    sorted(
        {kind.code for child in RequestError.__subclasses__() for kind in child.tree() if kind is not Refused}
        | {EXPORT_FAILED, CAPSULE_TOO_LARGE}
        | ErrorCode.__members__.keys()
    )
)
"""Every code that a client can see."""
