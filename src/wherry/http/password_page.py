"""The page that a password link leads to: `/set-password#token=…`, a form that posts to `/api/users/password`.

Browsers do not send what follows the `#`, so the token never appears in a log. The page loads nothing, and can connect
only to this server.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler

from wherry.accounts.links import PAGE


def password_page() -> HTTPRouteHandler:
    """The route of the page, whose file is read once."""
    page = files("wherry.http").joinpath("pages/set_password.html").read_text("utf-8")
    headers = {
        "Content-Security-Policy": _policy(page),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }

    @get(PAGE, media_type=MediaType.HTML, include_in_schema=False)
    async def set_password_page() -> Response[str]:
        return Response(page, media_type=MediaType.HTML, headers=headers)

    return set_password_page


def _policy(page: str) -> str:
    """Allows the page's own script and style, by their digests, and nothing else (CSP level 3, section 2.3.1)."""
    script, style = (_digest(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(page: str, tag: str) -> str:
    content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = hashlib.sha256(content[0].encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
