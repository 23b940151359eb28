"""The OpenAPI document describes the tables as they are when it is requested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State

from wherry.database.pools import Pool
from wherry.http.documentation import documentation
from wherry.http.exports import export_router
from wherry.http.framework import litestar_options
from wherry.tables.declarations import Declaration, Declarations
from wherry.tables.registry import Tables

PRICES = Declaration(table="shop.price", exclude=("label", "state"))


@dataclass
class Parts:
    """What `Services` holds of what the document needs."""

    tables: Tables


@pytest.fixture
def tables(pool: Pool) -> Tables:
    return Tables(pool, Declarations(tables={"prices": PRICES}))


@pytest.fixture
async def client(tables: Tables) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that has the routes of exports, without a token."""
    state = State({"services": Parts(tables)})
    app = Litestar([export_router], state=state, openapi_config=documentation(), **litestar_options())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


async def fields(client: httpx.AsyncClient) -> list[str]:
    """The fields of an export of prices, as documented."""
    document: Any = (await client.get("/openapi.json")).raise_for_status().json()
    return list(document["components"]["schemas"]["PricesExport"]["properties"])


async def test_nothing_about_an_excluded_column_is_in_the_document(client: httpx.AsyncClient, pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("comment on column shop.price.label is 'about the label'")
        await connection.execute("comment on column shop.price.sku is 'about the sku'")
    text = (await client.get("/openapi.json")).text
    assert "about the sku" in text
    assert not [secret for secret in ("about the label", "it's", '"label"', '"state"') if secret in text]


async def test_the_document_follows_the_tables(client: httpx.AsyncClient, pool: Pool, tables: Tables) -> None:
    before = await fields(client)
    async with pool.connection() as connection:
        await connection.execute("alter table shop.price add column extra int")
    assert await fields(client) == before  # until the catalog is read again
    await tables.reread()
    assert await fields(client) == [*before, "extra"]


async def test_a_table_that_cannot_be_used_has_a_name_but_no_schema(
    client: httpx.AsyncClient, pool: Pool, tables: Tables
) -> None:
    async with pool.connection() as connection:
        await connection.execute("alter table shop.price rename to price_before")
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert "prices" in schemas["ResourceName"]["enum"]
    assert not {"PricesImport", "PricesExport"} & schemas.keys()
