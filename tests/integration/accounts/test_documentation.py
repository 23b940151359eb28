"""The OpenAPI document describes the responses of the account routes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PROBLEM = "application/problem+json"


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/schema/openapi.json")).json())


async def test_every_refusal_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api")
    ]

    assert len(operations) == 10
    for path, method, operation in operations:
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert refusals, path
        for status, answer in refusals.items():
            assert list(answer["content"]) == [PROBLEM], (path, status)
        assert ("401" in refusals) == bool(operation.get("security")), path
        if method in ("post", "put") and "requestBody" in operation:
            assert {"413", "415", "422"} <= set(refusals), path


async def test_bodies_and_responses_are_documented_by_field(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    changed = next(schema for name, schema in schemas.items() if name.endswith("ChangedFields"))
    problem = next(schema for name, schema in schemas.items() if name.endswith("Problem"))

    assert set(changed["properties"]) == {"username", "email", "password", "bio", "image"}
    assert {"type", "title", "status", "detail", "code"} == set(problem["required"])
    assert {"errors", "error", "requestId"} <= set(problem["properties"])
