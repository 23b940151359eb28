"""The `Idempotency-Key` field (IETF draft "The Idempotency-Key HTTP Header Field").

In: a request. Out: its key, 1 to 255 visible ASCII characters; a quoted string counts without its quotes.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import Request

from wherry.errors import Invalid

HEADER = "Idempotency-Key"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


def idempotency_key(request: Request[Any, Any, Any], *, required: bool) -> str | None:
    """The request's key; None where there is none, and none is needed.

    Raises:
        Invalid: it is needed and missing, or no key.
    """
    value = request.headers.get(HEADER)
    if value is None and not required:
        return None
    key = (value or "").strip()
    if len(key) > 2 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if not _VISIBLE.fullmatch(key):
        detail = "idempotencyKey is required: a header Idempotency-Key of 1 to 255 visible characters"
        raise Invalid(detail, field="idempotencyKey")
    return key
