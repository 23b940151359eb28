"""Every error that wherry raises on purpose, and the codes of records, files and jobs; `codes` has those of requests.

WherryError
├── Refused          the caller's fault; becomes a 4xx problem
│   ├── Malformed (400) · Unauthenticated (401) · Forbidden (403) · NotFound (404) · Conflict (409) · Gone (410)
│   ├── PreconditionFailed (412)
│   └── TooLarge (413) · UnsupportedMedia (415) · RangeNotSatisfiable (416) · Invalid (422) · LimitReached (429)
├── Unavailable      try later; 503 with Retry-After
├── Misconfigured    a setting that cannot be read; the program does not start
├── JobFailed        ends a job; its code and message are shown on the job
├── JobCancelled     the owner asked for it; ends a job as cancelled
├── JobReleased      the worker is stopping; the job goes back to the queue, and on from its checkpoint
└── LeaseLost        another worker owns this job now; stop quietly
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum


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


class Refused(WherryError):
    """The caller's fault: answered with `status`, `code` and, per request field, messages.

    Args:
        detail: one sentence that names what is wrong.
        field: the request field that is at fault, if there is one; `detail` becomes its message.
        fields: several fields with their messages, instead of `field`.
        code: a name that a program can test for; the class has a default.
        headers: response headers that belong to this answer (`Retry-After`, `Location`).
    """

    status = 400
    code = "BAD_REQUEST"

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        fields: Mapping[str, Sequence[str]] | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}
        if field is not None:
            self.fields.setdefault(field, []).append(detail)
        self.code = code or type(self).code
        self.headers = dict(headers or {})


class Malformed(Refused):
    """The request cannot be read at all."""


class Unauthenticated(Refused):
    """No credential, or one that does not hold."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(Refused):
    """Known, but not allowed."""

    status = 403
    code = "FORBIDDEN"


class NotFound(Refused):
    """Not there, or somebody else's: the answer is the same."""

    status = 404
    code = "NOT_FOUND"


class Conflict(Refused):
    """Not in the state that the request needs."""

    status = 409
    code = "CONFLICT"


class Gone(Refused):
    """Was there, and is past its time."""

    status = 410
    code = "GONE"


class PreconditionFailed(Refused):
    """Not the representation that the request insists on (RFC 9110, section 15.5.13)."""

    status = 412
    code = "PRECONDITION_FAILED"


class TooLarge(Refused):
    """More bytes than a limit allows."""

    status = 413
    code = "FILE_TOO_LARGE"


class UnsupportedMedia(Refused):
    """A Content-Type that this route does not read."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class RangeNotSatisfiable(Refused):
    """No byte of the artifact lies within the asked range (RFC 9110, section 15.5.17)."""

    status = 416
    code = "RANGE_NOT_SATISFIABLE"


class Invalid(Refused):
    """Readable, but not what this route takes."""

    status = 422
    code = "VALIDATION_FAILED"


class LimitReached(Refused):
    """Too many requests, or too many unfinished jobs. Give `Retry-After` in `headers`."""

    status = 429
    code = "RATE_LIMITED"


class Unavailable(WherryError):
    """Try later: answered with 503 and `Retry-After`.

    Args:
        detail: one sentence for the caller.
        code: a name that a program can test for.
        retry_after: seconds.
    """

    status = 503

    def __init__(self, detail: str, *, code: str = "UNAVAILABLE", retry_after: int = 5) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.headers = {"Retry-After": str(retry_after)}


class Misconfigured(WherryError):
    """A setting that cannot be read, named with what it must be."""


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
        """What a job says that gives up on a storage."""
        return cls(ErrorCode.STORAGE_ERROR, error.detail[:1].upper() + error.detail[1:])


class JobCancelled(WherryError):
    """The owner asked for the job to be cancelled, and the runner has stopped at a checkpoint."""


class JobReleased(WherryError):
    """The worker is stopping, or the database went away: the job goes back to the queue as it stands."""


class LeaseLost(WherryError):
    """Another worker has claimed the job since; stop, and write nothing more."""
