"""The `Idempotency-Key` field (IETF draft "The Idempotency-Key HTTP Header Field").

In: a request. Out: its key, 1 to 255 visible ASCII characters. The draft sends it as a quoted string, which counts
without its quotes; clients of the older services send it as it is.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import Request

from wherry.errors import Invalid

HEADER = "Idempotency-Key"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"(.*)"', re.DOTALL)


def idempotency_key(request: Request[Any, Any, Any], *, required: bool) -> str | None:
    """The request's key; None where there is none, and none is needed.

    Raises:
        Invalid: it is needed and missing, or no key.
    """
    value = request.headers.get(HEADER)
    if value is None and not required:
        return None
    if value is None:
        detail = "idempotencyKey is required: a header Idempotency-Key of 1 to 255 visible characters"
        raise Invalid(detail, field="idempotencyKey")
    key = value.strip(" \t")
    quoted = _QUOTED.fullmatch(key)
    key = key if quoted is None else quoted[1]
    if not _VISIBLE.fullmatch(key):
        detail = "idempotencyKey must be 1 to 255 visible characters, in the header Idempotency-Key"
        raise Invalid(detail, field="idempotencyKey")
    return key
