"""Header fields that clients write in more than one way: keys, credentials, the last event."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get
from litestar.datastructures import State

from wherry.database.pools import make_pool
from wherry.errors import Invalid
from wherry.http.framework import litestar_options
from wherry.http.idempotency import idempotency_key
from wherry.http.security import CAPSULE_SCHEMES, credential, require_capsule_key
from wherry.http.streams import last_event_id


def _request(name: str, value: bytes | None) -> Request[Any, Any, Any]:
    headers = [] if value is None else [(name.lower().encode(), value)]
    scope: Any = {"type": "http", "query_string": b"", "headers": headers}
    return Request(scope)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"plain-1", "plain-1"),
        (b' "quoted" ', "quoted"),
        (b'"', '"'),
        (b'half"', 'half"'),
        (b'"""', '"'),
        (b"k" * 255, "k" * 255),
        (b'"' + b"k" * 255 + b'"', "k" * 255),
        (b" articles of 2026 ", "articles of 2026"),
        ("ключ-é-鍵".encode(), "ключ-é-鍵"),
        (b"caf\xe9", "café"),
        ("鍵".encode() * 255, "鍵" * 255),
    ],
)
def test_a_key_counts_without_its_quotes(value: bytes, key: str) -> None:
    assert idempotency_key(_request("Idempotency-Key", value), required=False) == key


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("value", [b"", b" ", b'""', b'" "', b"k" * 256, "鍵".encode() * 256])
def test_what_is_no_key_is_told_what_it_must_be(value: bytes, required: bool) -> None:
    with pytest.raises(Invalid, match="idempotencyKey must be 1 to 255 characters") as refused:
        idempotency_key(_request("Idempotency-Key", value), required=required)
    assert refused.value.fields.keys() == {"idempotencyKey"}


def test_a_key_is_missed_only_where_it_is_needed() -> None:
    assert idempotency_key(_request("Idempotency-Key", None), required=False) is None
    with pytest.raises(Invalid, match=r"^Idempotency-Key header is required$"):
        idempotency_key(_request("Idempotency-Key", None), required=True)


@pytest.mark.parametrize(("value", "seen"), [(None, None), (b"", None), (b" ", None), (b"0", 0), (b"17", 17)])
def test_an_empty_last_event_is_none(value: bytes | None, seen: int | None) -> None:
    assert last_event_id(_request("Last-Event-ID", value)) == seen


@pytest.mark.parametrize("key", ["plain key", "clé-à", "ключ", "鍵"])
async def test_a_capsule_key_may_be_of_any_characters(key: str, database_url: str) -> None:
    @get("/v1/guarded", guards=[require_capsule_key])
    async def guarded() -> None:
        return

    pool = make_pool(database_url, name="wherry tests", max_size=1)
    services = SimpleNamespace(capsule_api_key=key, pool=pool)
    app = Litestar([guarded], state=State({"services": services}), **litestar_options())
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with pool, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        statuses = [
            (await client.get("/v1/guarded", headers={b"Authorization": b"Bearer " + given.encode()})).status_code
            for given in (key, key[:-1], key.encode().decode("latin-1") + "\u00e9")
        ]
    assert statuses == [200, 401, 401]


def test_a_credential_keeps_every_byte_but_the_blanks_around_it() -> None:
    request = _request("Authorization", "  Bearer \t clé à  ".encode())
    assert credential(request, CAPSULE_SCHEMES).encode("latin-1") == "clé à".encode()
