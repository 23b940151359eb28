"""The `Idempotency-Key` header (IETF draft "The Idempotency-Key HTTP Header Field").

A key has 1 to 255 characters of any kind. In the draft it is a quoted string, whose quotes are not part of the key;
clients of the older services send it without quotes.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import Request

from wherry.errors import Invalid

HEADER = "Idempotency-Key"
MAX_CHARACTERS = 255
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)


def idempotency_key(request: Request[Any, Any, Any], *, required: bool) -> str | None:
    """The request's key, trimmed, or None if there is none and none is required.

    Raises:
        Invalid: it is required and missing, or it is empty or too long.
    """
    value = request.headers.get(HEADER)
    if value is None and not required:
        return None
    if value is None:
        raise Invalid("Idempotency-Key header is required", field="idempotencyKey")
    key = _decoded(value).strip()
    quoted = _QUOTED.fullmatch(key)
    key = key if quoted is None else quoted[1].strip()
    if not 0 < len(key) <= MAX_CHARACTERS:
        detail = f"idempotencyKey must be 1 to {MAX_CHARACTERS} characters, in the header Idempotency-Key"
        raise Invalid(detail, field="idempotencyKey")
    return key


def _decoded(value: str) -> str:
    """The value that the client meant: headers are decoded as Latin-1, but most clients send UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
