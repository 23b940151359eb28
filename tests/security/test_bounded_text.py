"""Twice the text takes at most about twice the time, in every input of every route and every field of a record.

Inputs are found in the OpenAPI document and in the declarations of the resources, so new ones are tested, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from litestar import Litestar

from tests.accounts_app import SECRET, bearer, quick_passwords, register
from tests.builtin_tables import TABLES
from wherry.accounts.links import PasswordLinks
from wherry.accounts.login import Logins
from wherry.accounts.service import Accounts
from wherry.accounts.tokens import Tokens
from wherry.accounts.validation import normalize_email
from wherry.app import create_app
from wherry.capsules.runner import slug
from wherry.http.services import Services
from wherry.imports.decode import Decoder
from wherry.imports.models import RawRecord
from wherry.imports.readers.records import JsonParser
from wherry.settings import load_settings
from wherry.tables.derivation import shape_of

pytestmark = pytest.mark.security

LENGTH = 8000
LENGTH_IN_ADDRESS = 4000  # a head may have 64 KiB, and a mark takes six characters there
LONGEST = 32_000
MOST = 3.0
"""A quadratic step takes four times as long. If the longer text does not fit into the CPU cache, 2.5 is not unusual."""
FLOOR_SECONDS = 0.01
"""What takes less is not judged: at twice the longest text that fits a request it still harms nobody."""
RUNS = 5
TRIES = 3  # a machine that is busy with other things may slow down one of two lengths

SHAPES: Mapping[str, Callable[[int], str]] = {
    "marks": lambda length: "a" + "\u0301" * (length // 2) + "\u0327" * (length // 2),
    "alternating marks": lambda length: "a" + "\u0301\u0327" * (length // 2),
    "an address with marks": lambda length: "a" + "\u0301" * (length // 2) + "\u0327" * (length // 2) + "@b.c",
    "letters with marks": lambda length: "a\u0327" * (length // 2),
    "ats": lambda length: "a@" * (length // 2),
    "one address": lambda length: "a@a." + "a." * (length // 2),
    "hyphens": lambda length: "-a" * (length // 2),
    "kebab": lambda length: "a-" * (length // 2) + "-",
    "spaces": lambda length: "a" + " " * length + "a",
    "dots": lambda length: "." * length,
    "brackets": lambda length: "[" * length,
    "quotes": lambda length: 'a="' * (length // 3),
    "semicolons": lambda length: "a/a;" + " " * length + "=",
    "commas": lambda length: "bytes=" + "0-1," * (length // 4),
    "digits": lambda length: "0" * length + "x",
    "a number": lambda length: "9" * length,
}

HEADERS = (
    *("Accept", "Authorization", "Content-Type", "Cookie", "Host", "If-Match", "If-None-Match", "If-Range"),
    *("Last-Event-ID", "Origin", "Range", "X-Forwarded-For", "X-Request-Id"),
)
"""Fields that are read, but are no parameters of a route."""

Send = Callable[[str], Awaitable[object]]


async def growth(send: Send, shape: Callable[[int], str], length: int = LENGTH) -> float | None:
    """By how much the processor time grows if the text is twice as long; None if it is short anyway."""
    if await _seconds(send, shape(2 * length)) < FLOOR_SECONDS:
        return None
    factor = MOST
    for _ in range(TRIES):
        small, large = [], []
        for _ in range(RUNS):
            small.append(await _seconds(send, shape(length)))
            large.append(await _seconds(send, shape(2 * length)))
        if min(large) < FLOOR_SECONDS:
            return None
        factor = min(large) / min(small)
        if factor <= MOST:
            break
    return factor


async def _seconds(send: Send, text: str) -> float:
    start = time.process_time()
    await send(text)
    return time.process_time() - start


@asynccontextmanager
async def application(database_url: str, folder: Path) -> AsyncIterator[Litestar]:
    """All routes, with quick passwords: how long one takes is known."""
    key = "a capsule key of tests"
    settings = load_settings(
        jwt_secret=SECRET, database_url=database_url, wherry_data_dir=folder, memvid_export_api_key=key
    )
    app = create_app(settings)
    services: Services = app.state.services
    parts = services.pool, quick_passwords(), Tokens(SECRET, services.accounts.tokens.valid_for)
    app.state.services = replace(
        services,
        accounts=Accounts(*parts),
        logins=Logins(*parts),
        password_links=PasswordLinks(*parts, base_url="http://localhost", mailer=None),
    )
    async with app.lifespan():
        yield app


def leaves(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where in a body there may be text, or anything else that is no object."""
    for each in schema.get("oneOf", ()):
        yield from leaves(each, path)
    for name, member in schema.get("properties", {}).items():
        yield from leaves(member, (*path, name))
    if "items" in schema:
        yield from leaves(schema["items"], (*path, "0"))
    if path and schema.get("type") in ("string", "integer", "boolean"):
        yield path


def sample(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Any:
    """A body that is taken, if possible with the place `path`, so that the text there is looked at."""
    for each in schema.get("oneOf", ()):
        if path in set(leaves(each)) or each is schema["oneOf"][-1]:
            return sample(each, path)
    if "properties" in schema:
        wanted = {*schema.get("required", ()), *path[:1]}
        return {name: sample(schema["properties"][name], path[1:] if [name] == [*path[:1]] else ()) for name in wanted}
    if "items" in schema:
        return [sample(schema["items"], path[1:])]
    return schema["enum"][0] if "enum" in schema else "a"


def put(body: Any, path: tuple[str, ...], text: str) -> Any:
    place = body
    for step in path[:-1]:
        place = place[0] if step == "0" else place[step]
    place[0 if path[-1] == "0" else path[-1]] = text
    return body


def inputs(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Callable[[str], dict[str, Any]]]]:
    """Method, address and name of each input, and what makes the arguments of a request of a text in it."""
    for address, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                name, place = parameter["name"], parameter["in"]
                yield method, address, f"{place} {name}", _in_parameter(address, name, place)
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                for path in dict.fromkeys(leaves(schema)):
                    yield method, address, "body " + ".".join(path), _in_body(schema, path)
            for (name,) in leaves(content.get("multipart/form-data", {}).get("schema", {})):
                yield method, address, f"form {name}", _in_form(name)
    for name in HEADERS:
        yield "get", "/api/user", f"header {name}", _in_parameter("/api/user", name, "header")
        yield "post", "/api/v1/imports", f"header {name}", _in_parameter("/api/v1/imports", name, "header")
        yield "get", "/nowhere", f"header {name}", _in_parameter("/nowhere", name, "header")
    yield "get", "/{anything}", "path anything", _in_parameter("/{anything}", "anything", "path")
    for resource in TABLES.values():
        for each in resource.filters:
            for make in (lambda text, column=each.column: {column: text}, lambda text: {text: text}):
                yield "post", "/api/v1/exports", f"filter {each.column}", _in_filter(resource.name, make)


def _in_parameter(address: str, name: str, place: str) -> Callable[[str], dict[str, Any]]:
    def make(text: str) -> dict[str, Any]:
        if place == "path":
            return {"url": address.replace("{" + name + "}", quote(text, safe=""))}
        if place == "query":
            return {"params": {name: text}}
        return {"headers": {name: text.encode()}}

    return make


def _in_body(schema: Mapping[str, Any], path: tuple[str, ...]) -> Callable[[str], dict[str, Any]]:
    return lambda text: {"json": put(sample(schema, path), path, text)}


def _in_form(name: str) -> Callable[[str], dict[str, Any]]:
    def make(text: str) -> dict[str, Any]:
        if name == "file":
            return {"files": {"file": (f"{text}.json", b"{}")}, "data": {"resource": "users"}}
        return {"files": {"file": ("a.json", b"{}")}, "data": {"resource": "users", name: text}}

    return make


def _in_filter(resource: str, filters: Callable[[str], dict[str, str]]) -> Callable[[str], dict[str, Any]]:
    return lambda text: {"json": {"resource": resource, "filters": filters(text)}}


async def test_no_input_of_a_route_takes_more_than_linear_time(database_url: str, tmp_path: Path) -> None:
    slow, judged = {}, 0
    async with application(database_url, tmp_path) as app:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            token = (await register(client, "captain"))["token"]
            for method, address, name, make in inputs(app.openapi_schema.to_schema()):
                credential = app.state.services.capsule_api_key if address.startswith("/v1") else token
                headers = {**bearer(credential), "Idempotency-Key": "k"}

                async def send(text: str) -> None:
                    arguments = {"url": address, **make(text)}  # noqa: B023  # called in this round only
                    arguments["headers"] = {**headers, **arguments.get("headers", {})}  # noqa: B023
                    answer = await client.request(method, **arguments)  # noqa: B023
                    assert answer.status_code < 500, (method, address, name, answer.text)  # noqa: B023

                for shape, text_of in SHAPES.items():
                    async with app.state.services.pool.connection() as connection:
                        await connection.execute("truncate wherry.rate_limits")
                    judged += 1
                    in_address = name.startswith(("path", "query"))
                    factor = await growth(send, text_of, LENGTH_IN_ADDRESS if in_address else LENGTH)
                    if factor is not None and factor > MOST:
                        slow[method, address, name, shape] = factor
    assert not slow
    assert judged > 1000


SOUND = {
    "users": {"id": 1, "email": "a@b.c", "name": "A"},
    "articles": {"id": 1, "slug": "a", "title": "T", "body": "B", "author_id": 1},
    "comments": {"id": 1, "body": "B", "article_id": 1, "user_id": 1},
}


@pytest.mark.parametrize(
    ("resource", "field"), [(name, each.name) for name, found in TABLES.items() for each in shape_of(found).fields]
)
async def test_no_field_of_a_record_takes_more_than_linear_time(resource: str, field: str) -> None:
    decoder = Decoder(TABLES[resource], JsonParser(), caller_role="admin", max_bytes=16 << 20)
    sound: dict[str, Any] = SOUND[resource]
    kinds: list[Callable[[str], str]] = [
        lambda text: json.dumps({**sound, field: text}, ensure_ascii=False),
        lambda text: json.dumps({**sound, field: f" {text}"}),
        lambda text: json.dumps({**sound, field: list(text)}),
        lambda text: json.dumps({**sound, field: "@"}).replace('"@"', text),
    ]
    for kind in kinds:

        async def send(text: str) -> None:
            data = kind(text).encode()  # noqa: B023  # called in this round only
            decoder.decode(RawRecord(0, len(data), data, len(data)))

        await _require_linear(send)


@pytest.mark.parametrize("function", [slug, normalize_email])
async def test_no_text_takes_more_than_linear_time_to_normalise(function: Callable[[str], str]) -> None:
    async def send(text: str) -> None:
        function(text)

    await _require_linear(send)


async def _require_linear(send: Send) -> None:
    for name, shape in SHAPES.items():
        length = LENGTH
        while length < LONGEST and await _seconds(send, shape(2 * length)) < FLOOR_SECONDS:
            length *= 2
        factor = await growth(send, shape, length)
        assert factor is None or factor <= MOST, (name, length)


def test_a_slug_of_fifteen_megabytes_takes_little_memory() -> None:
    script = """
import resource
from tests.security.test_bounded_text import TABLES, Decoder, JsonParser, RawRecord
data = b'{"id":1,"title":"T","body":"B","author_id":1,"slug":"' + b"a-" * (15 << 19) + b'a"}'
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decoder = Decoder(TABLES["articles"], JsonParser(), caller_role="user", max_bytes=16 << 20)
entry = decoder.decode(RawRecord(0, 0, data, len(data)))
print(int(entry.errors[0].code), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, megabytes = map(int, done.stdout.split())
    assert code == 1004
    assert megabytes < 150


async def test_an_address_may_have_at_most_thirty_marks_in_a_row() -> None:
    decoder = Decoder(TABLES["users"], JsonParser(), caller_role="admin", max_bytes=16 << 20)

    def codes(email: str) -> list[tuple[int, str | None]]:
        data = json.dumps({"email": email, "name": "A"}).encode()
        entry = decoder.decode(RawRecord(0, len(data), data, len(data)))
        return [(int(error.code), error.field) for error in entry.errors]

    assert codes("\u0131" + "\u0327" * 30 + "@b.c") == []
    assert codes("\u0131" + "\u0327" * 31 + "@b.c") == [(1003, "email")]
    assert codes("a" * 250 + "@b.c") == []
    assert codes("a" * 251 + "@b.c") == [(1004, "email")]
    assert codes("\u0958" * 130 + "@b.c") == [(1004, "email")]  # composed, it is twice as long
