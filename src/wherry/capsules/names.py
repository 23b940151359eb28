"""Names a capsule's file.

In: the base name that a client sent, whatever it holds. Out: a file name that is safe in a folder and in a header.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

MAX_SLUG = 80
MAX_BASE_NAME = 1000
"""Characters of a base name that are looked at: many more than a file name has room for."""

_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits, single hyphens between, 80 characters at most; `project` if none is left."""
    plain = unicodedata.normalize("NFKD", text[:MAX_BASE_NAME]).encode("ascii", "ignore").decode()
    return _NOT_SLUG.sub("-", plain.lower()).strip("-")[:MAX_SLUG].rstrip("-") or "project"


def capsule_name(base_name: str, day: date) -> str:
    """``{base name as a slug}-gitnexus-mem_capsule-{YYYY-MM-DD}.mv2``."""
    return f"{slug(base_name)}-gitnexus-mem_capsule-{day.isoformat()}.mv2"
