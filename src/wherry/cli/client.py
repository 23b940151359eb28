"""A client of wherry's public API, for the command line: it creates, follows and downloads jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from types import TracebackType
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
        token: authorizes requests under `/api`.
        api_key: authorizes requests under `/v1`.
    """

    def __init__(self, url: str, *, token: str | None = None, api_key: str | None = None) -> None:
        self.token = token
        self._api_key = api_key
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def register(self, username: str, email: str, password: str) -> None:
        """Create an account and use its token from now on."""
        user = {"username": username, "email": email, "password": password}
        self.token = (await self._json("POST", "/api/users", json={"user": user}))["user"]["token"]

    async def start_import(self, resource: str, lines: AsyncIterable[bytes], **options: str) -> Json:
        """Send ndjson as the request's body; return the job."""
        response = await self._json(
            "POST",
            "/api/v1/imports",
            params={"resource": resource, "format": "ndjson", **options},
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": str(uuid.uuid4())},
            content=lines,
        )
        return dict(response["importJob"])

    async def start_export(self, resource: str, **options: str) -> Json:
        """Request an export; return the job."""
        return dict((await self._json("POST", "/api/v1/exports", json={"resource": resource, **options}))["exportJob"])

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

    async def get(self, path: str) -> Json:
        """Fetch a JSON document."""
        return await self._json("GET", path)

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Stream the bytes of a download."""
        async with self._http.stream("GET", path, headers=self._credentials(path)) as response:
            await _check(response)
            async for chunk in response.aiter_bytes():
                yield chunk

    async def _events(self, path: str) -> AsyncIterator[tuple[str, Json]]:
        async with self._http.stream("GET", path, headers=self._credentials(path)) as response:
            await _check(response)
            event = "message"
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield event, msgspec.json.decode(line.removeprefix("data: "))

    async def _json(self, method: str, path: str, **request: Any) -> Json:
        headers = {"Content-Type": "application/json", **self._credentials(path), **request.pop("headers", {})}
        response = await self._http.request(method, path, headers=headers, **request)
        await _check(response)
        return dict(msgspec.json.decode(response.content))

    def _credentials(self, path: str) -> dict[str, str]:
        credential = self._api_key if path.startswith("/v1/") else self.token
        return {} if credential is None else {"Authorization": f"Bearer {credential}"}


async def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    await response.aread()
    raise RequestFailed(f"{response.request.method} {response.url.path}: {response.status_code} {response.text}")
