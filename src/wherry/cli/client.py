"""A client of wherry's public API, for the command line: it creates, follows and downloads jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Self

import httpx
import msgspec

from wherry.errors import RequestFailed

Json = dict[str, Any]
Progress = Callable[[Json], None]
TIMEOUT = httpx.Timeout(30.0, read=120.0)


class Client:
    """Use it as an async context manager.

    Args:
        url: the URL of the service.
        api_key: authorizes requests under `/v1`.
    """

    def __init__(self, url: str, *, api_key: str | None) -> None:
        self._token: str | None = None
        self._api_key = api_key
        self._http = httpx.AsyncClient(
            base_url=url, auth=self._authorized, trust_env=False, timeout=TIMEOUT, event_hooks={"response": [_check]}
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._http.__aexit__(*error)

    async def register(self, username: str, email: str, password: str) -> None:
        """Create an account and use its token from now on."""
        user = {"username": username, "email": email, "password": password}
        self._token = (await self._json("POST", "/api/users", json={"user": user}))["user"]["token"]

    async def start_import(self, resource: str, lines: AsyncIterable[bytes]) -> Json:
        """Send ndjson as the request's body; return the job."""
        response = await self._json(
            "POST",
            "/api/v1/imports",
            params={"resource": resource, "format": "ndjson"},
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": str(uuid.uuid4())},
            content=lines,
        )
        return dict(response["importJob"])

    async def start_export(self, resource: str) -> Json:
        """Request an export as ndjson; return the job."""
        body = {"resource": resource, "format": "ndjson"}
        return dict((await self._json("POST", "/api/v1/exports", json=body))["exportJob"])

    async def start_capsule(self, graph: bytes) -> str:
        """Submit a graph; return the job's id."""
        return str((await self._json("POST", "/v1/exports", content=graph))["jobId"])

    async def follow(self, job_id: str, on_progress: Progress) -> Json:
        """Follow the events of an import or export; return the finished job."""
        async for event, data in self._events(f"/api/v1/jobs/{job_id}/events"):
            on_progress(data)
            if event == "finished":
                return data
        raise RequestFailed(f"the events of job {job_id} ended before the job did")

    async def follow_capsule(self, job_id: str, on_progress: Progress) -> Json:
        """Follow the events of a capsule; return the finished job."""
        async for _, data in self._events(f"/v1/exports/{job_id}/events/stream"):
            on_progress(data)
        return await self._json("GET", f"/v1/exports/{job_id}")

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Stream the bytes of a download."""
        async with self._http.stream("GET", path) as response:
            async for chunk in response.aiter_bytes():
                yield chunk

    async def _events(self, path: str) -> AsyncIterator[tuple[str, Json]]:
        async with self._http.stream("GET", path) as response:
            event = "message"
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield event, msgspec.json.decode(line.removeprefix("data: "))

    async def _json(self, method: str, path: str, **request: Any) -> Json:
        headers = {"Content-Type": "application/json", **request.pop("headers", {})}
        response = await self._http.request(method, path, headers=headers, **request)
        return dict(msgspec.json.decode(response.content))

    def _authorized(self, request: httpx.Request) -> httpx.Request:
        credential = self._api_key if request.url.path.startswith("/v1/") else self._token
        if credential is not None:
            request.headers["Authorization"] = f"Bearer {credential}"
        return request


async def _check(response: httpx.Response) -> None:
    if not response.is_success:
        await response.aread()
        raise RequestFailed(f"{response.request.method} {response.url.path}: {response.status_code} {response.text}")
