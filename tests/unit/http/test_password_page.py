"""The page that a password link leads to."""

from __future__ import annotations

import base64
import hashlib
import re

import httpx
from litestar import Litestar

from wherry.http.framework import litestar_options
from wherry.http.password_page import password_page


async def _page() -> httpx.Response:
    transport = httpx.ASGITransport(app=Litestar([password_page()], **litestar_options()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/set-password")


async def test_the_page_is_a_form_that_its_own_policy_lets_run_and_nothing_else() -> None:
    answer = await _page()
    policy = answer.headers["content-security-policy"]

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<form" in answer.text
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy


async def test_the_page_loads_nothing_from_elsewhere_and_tells_nobody_where_it_was() -> None:
    answer = await _page()

    assert not re.search(r"https?://|\bsrc=|\bhref=", answer.text)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
