"""A stranger's schema, declared with one command, and exported over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import psycopg
import pytest

from tests.commands import wherry
from tests.postgres import TestServer
from tests.processes import Service, finished, forked_service

SHOP = Path(__file__).parents[1] / "integration" / "tables" / "shop.sql"
ROWS = """
insert into shop.supplier (email) values ('a@example.com'), ('b@example.com');
insert into shop.price (tenant, sku, amount, state, meta, supplier_id)
select gen_random_uuid(), 'A-' || n, n + 0.5, 'live', '{"n": 1}', 1 from generate_series(1, 3) n;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def database(postgres_server: TestServer) -> Iterator[str]:
    url = postgres_server.create()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SHOP.read_bytes())
        connection.execute(ROWS.encode())
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def added(database: str, folder: Path) -> CompletedProcess[str]:
    """`wherry tables add 'shop.*'` in a directory without a tables.toml."""
    return command(database, folder, "add", "shop.*")


@pytest.fixture(scope="module")
def running(database: str, folder: Path, added: CompletedProcess[str]) -> Iterator[Service]:
    with forked_service(database, folder, TABLES_FILE=str(folder / "tables.toml")) as up:
        yield up


def command(database: str, folder: Path, *arguments: str, **settings: str) -> CompletedProcess[str]:
    environment = {"DATABASE_URL": database, "PATH": "/usr/bin:/bin", "COLUMNS": "200", **settings}
    return wherry(folder, environment, "tables", *arguments)


def test_add_declares_every_table_that_can_be_and_says_why_others_cannot(
    added: CompletedProcess[str], folder: Path
) -> None:
    assert (added.returncode, added.stderr) == (0, "")
    assert "added price: shop.price" in added.stdout
    assert "not added: shop.empty: shop.empty has no columns that may be shown" in added.stdout
    text = (folder / "tables.toml").read_text()
    assert text.startswith("[tables]\n")
    assert 'price = "shop.price"  # key tenant, sku; 10 columns; filters: tenant, sku, state\n' in text, text
    assert 'no_key = "shop.no_key"  # no key: exported as a file only; 2 columns; filters: none\n' in text
    assert 'odd_name = "shop.\\"Odd \\"\\"Name\\"\\"\\""' in text
    assert "parted_2024" not in text  # the partitioned table stands for its partitions


def test_add_leaves_out_what_is_declared_already(
    database: str, folder: Path, added: CompletedProcess[str], tmp_path: Path
) -> None:
    path = tmp_path / "tables.toml"
    path.write_text('# mine\n[tables]\nsuppliers = "shop.supplier"\n\n[tables.prices]\ntable = "shop.price"\n')
    ended = command(database, tmp_path, "add", "shop.*")
    assert ended.returncode == 0, ended.stderr
    text = path.read_text()
    assert text.startswith("# mine\n")
    assert "[tables.two_keys]" in text
    assert text.count('"shop.supplier"') == text.count('"shop.price"') == 1
    again = command(database, tmp_path, "add", "shop.*")
    assert path.read_text() == text
    assert "0 tables were added" in again.stdout


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("shop", "shop must be a schema and a name, such as 'shop.*'"),
        ("nowhere.*", "no table matches nowhere.*"),
        ("pg_catalog.*", "no table matches pg_catalog.*"),
        ("wherry.*", "no table matches wherry.*"),
    ],
)
def test_add_refuses_a_pattern_without_tables(database: str, tmp_path: Path, pattern: str, reason: str) -> None:
    ended = command(database, tmp_path, "add", pattern)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert reason in ended.stderr
    assert not (tmp_path / "tables.toml").exists()


def test_list_show_check_and_order_agree_with_the_database(
    database: str, folder: Path, added: CompletedProcess[str]
) -> None:
    listed = command(database, folder, "list", "--json")
    tables = {table["name"]: table for table in map(json.loads, listed.stdout.splitlines())}
    assert {"users", "articles", "comments", "price", "supplier"} <= tables.keys()
    assert tables["price"]["key"] == ["tenant", "sku"]
    shown = command(database, folder, "show", "supplier")
    assert "supplier is shop.supplier: Who sells to us." in shown.stdout
    assert "Where orders are sent." in shown.stdout
    assert f"{len(tables)} tables can be used" in command(database, folder, "check").stdout
    order = command(database, folder, "order").stdout.split()
    assert sorted(order) == sorted(tables)
    assert order.index("supplier") < order.index("price")
    assert order.index("users") < order.index("articles") < order.index("comments")


def test_check_names_every_table_that_cannot_be_used(database: str, tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text('[tables]\na = "shop.prise"\nb = { table = "shop.price", key = ["sku"] }\n')
    ended = command(database, tmp_path, "check")
    assert ended.returncode == 2
    assert "tables.a: there is no table shop.prise; did you mean shop.price?" in ended.stderr
    assert "tables.b: [sku] is not a key of shop.price" in ended.stderr


def test_a_worker_and_an_api_refuse_to_start_with_a_table_that_cannot_be_used(running: Service, tmp_path: Path) -> None:
    path = tmp_path / "tables.toml"
    path.write_text('[tables]\na = "shop.prise"\n')
    for started in ("api", "worker"):
        ended = wherry(tmp_path, {**running.environment, "TABLES_FILE": str(path)}, started)
        assert ended.returncode == 2
        assert "tables.a: there is no table shop.prise; did you mean shop.price?" in ended.stderr


@pytest.fixture(scope="module")
def admin(running: Service) -> Iterator[httpx.Client]:
    with running.admin() as client:
        yield client


def test_the_api_lists_tables_and_describes_their_records(admin: httpx.Client) -> None:
    resources = {each["name"]: each for each in admin.get("/api/v1/resources").json()["resources"]}
    assert resources["price"] == {
        "name": "price",
        "table": "shop.price",
        "key": ["tenant", "sku"],
        "fields": [
            "tenant",
            "sku",
            "amount",
            "label",
            "valid",
            "state",
            "meta",
            "supplier_id",
            "updated_at",
            "doubled",
        ],
        "filters": ["tenant", "sku", "state"],
        "canImport": False,
        "canExport": True,
    }
    assert resources["users"]["canImport"]
    schemas = admin.get("/api/v1/resources/price/schema").json()
    assert schemas["import"] is None
    assert schemas["export"]["properties"]["state"] == {"enum": ["draft", "live", "it's"]}
    assert schemas["export"]["properties"]["label"] == {
        "anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]
    }
    assert admin.get("/api/v1/resources/users/schema").json()["import"]["$defs"]
    unknown = admin.get("/api/v1/resources/nothing/schema")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "UNSUPPORTED_RESOURCE")


def test_a_declared_table_is_exported_as_a_job_and_as_a_page(admin: httpx.Client) -> None:
    created = admin.post("/api/v1/exports", json={"resource": "price", "fields": "sku,amount,meta,supplierId"})
    assert created.status_code == 202, created.text
    job = finished(admin, created.json()["exportJob"]["id"])
    assert job["status"] == "succeeded", job
    records = [json.loads(line) for line in admin.get(job["downloadUrl"]).text.splitlines()]
    assert sorted(record["amount"] for record in records) == [1.5, 2.5, 3.5]
    assert records[0]["meta"] == {"n": 1}
    page: dict[str, Any] = admin.get("/api/v1/exports?resource=supplier&format=json&limit=1").json()
    assert page == {"data": [{"id": 1, "email": "a@example.com", "parent_id": None}], "nextCursor": 1}


def test_a_role_that_may_not_export_a_table_does_not_see_it(running: Service, admin: httpx.Client) -> None:
    assert "price" in admin.post("/api/v1/exports", json={"resource": "nothing"}).json()["errors"]["resource"][0]
