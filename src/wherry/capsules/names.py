"""Makes the file name of a capsule, which is safe in a file system and in a header, from any text."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

MAX_SLUG = 80
MAX_BASE_NAME = 1000
"""Only this many characters of a base name are considered, far more than fit in a file name."""

_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def slug(text: str) -> str:
    """At most 80 lower-case ASCII letters and digits, separated by single hyphens; `project` if none are left."""
    plain = unicodedata.normalize("NFKD", text[:MAX_BASE_NAME]).encode("ascii", "ignore").decode()
    return _NOT_SLUG.sub("-", plain.lower()).strip("-")[:MAX_SLUG].rstrip("-") or "project"


def capsule_name(base_name: str, day: date) -> str:
    """``{base name as a slug}-gitnexus-mem_capsule-{YYYY-MM-DD}.mv2``."""
    return f"{slug(base_name)}-gitnexus-mem_capsule-{day.isoformat()}.mv2"
