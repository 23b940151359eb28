"""The one shape of every error, for tests of what clients get.

In: an answer. Out: its problem document, or a failed assertion.
"""

from __future__ import annotations

from typing import Any

import httpx

NEVER = "00000000-0000-7000-8000-000000000000"
"""The id of a job that never was."""


def problem_of(
    answer: httpx.Response, status: int, code: str | None = None, *, field: str | None = None
) -> dict[str, Any]:
    """The problem document of an answer, after a look at everything that all of them share."""
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text[:300]}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert all(isinstance(problem[name], str) and problem[name] for name in ("title", "detail", "code"))
    assert code in (None, problem["code"]), problem
    _has_the_older_members(answer, problem)
    _has_its_headers(answer)
    assert field is None or field in problem["errors"], problem
    return problem


def _has_the_older_members(answer: httpx.Response, problem: dict[str, Any]) -> None:
    path = answer.request.url.path
    if path == "/api" or path.startswith("/api/"):
        assert all(isinstance(messages, list) for messages in problem["errors"].values())
        if answer.status_code == 401:
            assert problem["errors"]["token"] in (["is missing"], ["is invalid"])
            assert problem["message"] == "missing authorization credentials"
    if path == "/v1" or path.startswith("/v1/"):
        assert problem["error"] == {"code": problem["code"], "message": problem["detail"]}


def _has_its_headers(answer: httpx.Response) -> None:
    assert answer.headers["X-Request-Id"]
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    if answer.status_code == 405:
        assert answer.headers["Allow"]
    if answer.status_code in (429, 503):
        assert int(answer.headers["Retry-After"]) > 0
