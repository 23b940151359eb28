"""A stranger's schema, declared with one command; imported and exported over HTTP."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import jsonschema_rs
import psycopg
import pytest
from jsonschema_rs import Draft202012Validator
from psycopg.conninfo import conninfo_to_dict

from tests.commands import wherry
from tests.postgres import TestServer
from tests.processes import Service, finished, forked_service, import_file

SHOP = Path(__file__).parents[1] / "integration" / "tables" / "shop.sql"
ROWS = """
insert into shop.supplier (email) values ('a@example.com'), ('b@example.com');
insert into shop.price (tenant, sku, amount, state, meta, supplier_id)
select gen_random_uuid(), 'A-' || n, n + 0.5, 'live', '{"n": 1}', 1 from generate_series(1, 3) n;
create table shop.stock (
  depot text,
  sku text,
  amount int not null constraint amount_not_negative check (amount >= 0),
  state shop.state not null default 'draft',
  label varchar(5) unique,
  meta jsonb,
  supplier_id bigint references shop.supplier,
  counted_at timestamp,
  number bigint generated always as identity,
  primary key (depot, sku)
);
comment on constraint amount_not_negative on shop.stock is 'Nobody owes us goods.';
create table shop.changing (id int primary key, gone text, kept text);
"""
OTHERS = """
named = { table = "shop.price", references = { supplier_id = "email" } }
sealed = { table = "shop.two_keys", import = false }
open = { table = "shop.supplier", import_roles = ["admin", "user"], export_roles = ["admin", "user"] }
"""
KEYS = map("own table {}".format, itertools.count())


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
    path = folder / "served.toml"
    path.write_text((folder / "tables.toml").read_text() + OTHERS)
    with forked_service(database, folder, TABLES_FILE=str(path), TRANSFER_ROLES="admin,user") as up:
        yield up


def command(database: str, folder: Path, *arguments: str, **settings: str) -> CompletedProcess[str]:
    environment = {"DATABASE_URL": database, "PATH": "/usr/bin:/bin", "COLUMNS": "200", **settings}
    return wherry(folder, environment, "tables", *arguments)


def test_add_declares_every_table_that_can_be_and_says_why_others_cannot(
    added: CompletedProcess[str], folder: Path
) -> None:
    assert (added.returncode, added.stderr) == (0, "")
    assert "added price: shop.price" in added.stdout
    assert (
        "  import: by admin; a new row needs tenant, sku, amount; not imported: doubled (generated)\n" in added.stdout
    )
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


def test_show_list_and_check_say_what_an_import_needs_and_what_it_leaves_out(database: str, tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text(
        """[tables]
        price = { table = "shop.price", read_only = ["updated_at"], references = { supplier_id = "email" } }
        sealed = { table = "shop.two_keys", import = false }
        """
    )
    shown = command(database, tmp_path, "show", "price").stdout
    assert "not imported: updated_at (read_only), doubled (generated)" in shown
    uses = {cells[1].strip(): cells[5].strip() for line in shown.splitlines() if len(cells := line.split("│")) == 8}
    assert (uses["amount"], uses["label"]) == ("required", "optional")
    assert (uses["updated_at"], uses["doubled"]) == ("no: read_only", "no: generated")
    assert uses["supplier"] == "in place of supplier_id"
    assert "import: no: import = false" in command(database, tmp_path, "show", "sealed").stdout
    assert "import: by admin, user; a new row needs email, name" in command(database, tmp_path, "show", "users").stdout
    listed = [json.loads(line) for line in command(database, tmp_path, "list", "--json").stdout.splitlines()]
    tables = {table["name"]: table for table in listed}
    assert tables["price"]["required"] == ["tenant", "sku", "amount"]
    assert tables["price"]["notImported"] == {"updated_at": "read_only", "doubled": "generated"}
    assert (tables["sealed"]["importRoles"], tables["users"]["importRoles"]) == ([], ["admin", "user"])
    checked = command(database, tmp_path, "check").stdout
    assert checked == (
        "warning: whoever may import into shop.price can find out which values shop.supplier has in email, because of "
        "references\nsealed cannot be imported into: import = false\n5 tables can be used, 4 of them for imports\n"
    )


@pytest.fixture
def clerk(database: str, tmp_path: Path) -> Iterator[str]:
    """The URL for a role that may read the shop, and insert suppliers without parents."""
    name = f"clerk_{uuid.uuid4().hex[:8]}"
    granting = wherry(tmp_path, {"DATABASE_URL": database}, "migrate", "--print-grants", "--role", name).stdout
    given = conninfo_to_dict(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"create role {name} login password 'x'")
        connection.execute(granting.encode())
        connection.execute(
            f"grant usage on schema shop to {name}; grant select on all tables in schema shop to {name};"
            f"grant insert (id, email) on shop.supplier to {name}"
        )
        yield f"postgresql://{name}:x@{given['host']}:{given['port']}/{given['dbname']}"
        connection.execute(f"drop owned by {name}; drop role {name}")


def test_show_and_check_say_which_rights_an_import_lacks(clerk: str, tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text('[tables]\nread = "shop.two_keys"\nwritten = "shop.supplier"\n')
    checked = command(clerk, tmp_path, "check")
    assert checked.returncode == 0, checked.stderr
    assert "read cannot be imported into: the database role may not insert into it" in checked.stdout
    shown = command(clerk, tmp_path, "show", "written").stdout
    assert "rows that exist cannot be updated; not imported: parent_id (no right to insert)" in shown


def test_check_names_every_table_that_cannot_be_used(database: str, tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text('[tables]\na = "shop.prise"\nb = { table = "shop.price", key = ["sku"] }\n')
    ended = command(database, tmp_path, "check")
    assert ended.returncode == 2
    assert "tables.a: there is no table shop.prise; did you mean shop.price?" in ended.stderr
    assert "tables.b: [sku] is not a key of shop.price" in ended.stderr


def test_check_prints_no_control_characters(database: str, tmp_path: Path) -> None:
    (tmp_path / "tables.toml").write_text(r"""tables.a = "shop.\"\u001b[31m\u0007\"" """)
    ended = command(database, tmp_path, "check")
    assert ended.returncode == 2
    assert "tables.a: there is no table shop." in ended.stderr
    assert [line for line in ended.stderr.splitlines() if not line.isprintable()] == []


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
        "canImport": True,
        "canExport": True,
    }
    assert resources["users"]["canImport"]
    assert (resources["sealed"]["canImport"], resources["sealed"]["canExport"]) == (False, True)
    schemas = admin.get("/api/v1/resources/price/schema").json()
    assert schemas["import"]["required"] == ["tenant", "sku", "amount"]
    assert "doubled" not in schemas["import"]["properties"]
    assert admin.get("/api/v1/resources/sealed/schema").json()["import"] is None
    assert schemas["export"]["properties"]["state"] == {"enum": ["draft", "live", "it's"]}
    assert schemas["export"]["properties"]["label"] == {
        "anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]
    }
    assert admin.get("/api/v1/resources/users/schema").json()["import"]["$defs"]
    unknown = admin.get("/api/v1/resources/nothing/schema")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "UNSUPPORTED_RESOURCE")


def test_the_openapi_document_has_the_schemas_of_every_table(running: Service, admin: httpx.Client) -> None:
    with running.client() as anybody:
        components = anybody.get("/openapi.json").raise_for_status().json()["components"]["schemas"]
    resources = admin.get("/api/v1/resources").json()["resources"]
    assert components["ResourceName"]["enum"] == [each["name"] for each in resources]
    titles = {"export": "PriceExport", "import": "PriceImport"}
    schemas = admin.get("/api/v1/resources/price/schema").json()
    for way, title in titles.items():
        described = {**components[title], "title": schemas[way]["title"]}
        assert "`price`" in described.pop("description")
        assert described == schemas[way]
    own = [schema for schema in components.values() if schema.get("$schema")]
    offered = sum(each["canImport"] + each["canExport"] for each in resources)
    assert len(own) == offered - 3  # the schemas of imports into built-in tables are the policies' own
    for schema in components.values():
        Draft202012Validator(schema | {"components": {"schemas": components}})


def test_an_exported_record_is_valid_by_the_schemas_of_exports_and_imports(
    running: Service, admin: httpx.Client
) -> None:
    components = admin.get("/openapi.json").json()["components"]["schemas"]
    page = admin.get("/api/v1/exports?resource=price&format=json").json()
    for record in page["data"]:
        Draft202012Validator(components["PriceExport"], validate_formats=True).validate(record)
        Draft202012Validator(components["PriceImport"], validate_formats=True).validate(record)
    assert page["data"]


def test_records_with_references_by_key_are_valid_by_the_schemas(running: Service, admin: httpx.Client) -> None:
    components = admin.get("/openapi.json").json()["components"]["schemas"]
    query = "resource=named&format=json&references=key"
    page = admin.get(f"/api/v1/exports?{query}").raise_for_status().json()
    for record in page["data"]:
        assert record["supplier"] == {"email": "a@example.com"}
        assert "supplier_id" not in record
        for way in ("Export", "Import"):
            validator = Draft202012Validator(components[f"Named{way}"])
            validator.validate(record)
            assert not validator.is_valid({**record, "supplier": {"id": 1}})
            assert validator.is_valid({**record, "supplier": None})
    assert page["data"]
    [author] = [components[name]["properties"]["author"] for name in ("ArticlesImport",)]
    assert author["properties"].keys() == {"email"}
    refused = admin.get(f"/api/v1/exports?{query.replace('=key', '=id')}")
    assert (refused.status_code, refused.json()["errors"].keys()) == (422, {"references"})
    created = admin.post("/api/v1/exports", json={"resource": "named", "references": "key", "fields": ["supplier"]})
    job = finished(admin, created.json()["exportJob"]["id"])
    assert admin.get(job["downloadUrl"]).text.splitlines()[0] == '{"supplier":{"email":"a@example.com"}}'


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


@pytest.fixture(scope="module")
def sailor(running: Service, admin: httpx.Client) -> Iterator[httpx.Client]:
    """An account with the role `user`; the first account is an admin."""
    user = {"username": "sailor", "email": "sailor@example.com", "password": "another salty password"}
    with running.client() as client:
        token = client.post("/api/users", json={"user": user}).raise_for_status().json()["user"]["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def test_a_role_sees_only_the_tables_that_it_may_use(admin: httpx.Client, sailor: httpx.Client) -> None:
    assert "price" in admin.post("/api/v1/exports", json={"resource": "nothing"}).json()["errors"]["resource"][0]
    resources = sailor.get("/api/v1/resources").json()["resources"]
    assert [each["name"] for each in resources if each["table"].startswith("shop.")] == ["open"]
    refused = sailor.post("/api/v1/exports", json={"resource": "price"})
    assert (refused.status_code, refused.json()["code"]) == (422, "UNSUPPORTED_RESOURCE")
    assert "price" not in refused.json()["errors"]["resource"][0]


def stock(sku: str, **fields: Any) -> dict[str, Any]:
    """A valid record of `shop.stock`."""
    return {"depot": "north", "sku": sku, "amount": 1, **fields}


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def imported(client: httpx.Client, resource: str, records: list[Any], **options: str) -> dict[str, Any]:
    """A finished import of a form."""
    return finished(client, import_file(client, resource, lines(records), key=next(KEYS), **options)["id"])


def errors_of(client: httpx.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(client.get(f"/api/v1/imports/{job['id']}/errors").raise_for_status().json()["errors"])


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


def test_records_are_imported_from_a_form_and_from_a_body(admin: httpx.Client, database: str) -> None:
    job = imported(admin, "stock", [stock("FORM", state="live", meta={"a": [1, None]}, supplier_id="1")])
    assert (job["status"], job["successCount"]) == ("succeeded", 1), job
    for media_type, body in (
        ("application/x-ndjson", lines([stock("BODY")])),
        ("application/json", json.dumps([stock("ARRAY")]).encode()),
    ):
        answer = admin.post(
            "/api/v1/imports?resource=stock",
            headers={"Idempotency-Key": next(KEYS), "Content-Type": media_type},
            content=body,
        )
        assert answer.status_code == 202, answer.text
        assert finished(admin, answer.json()["importJob"]["id"])["status"] == "succeeded"
    found = rows(
        database,
        "select sku, state::text, meta, supplier_id, number is not null from shop.stock"
        " where sku in ('FORM', 'BODY', 'ARRAY') order by sku",
    )
    assert found == [
        ("ARRAY", "draft", None, None, True),
        ("BODY", "draft", None, None, True),
        ("FORM", "live", {"a": [1, None]}, 1, True),
    ]


def test_a_role_imports_only_into_the_tables_that_it_may(
    admin: httpx.Client, sailor: httpx.Client, database: str
) -> None:
    assert imported(sailor, "open", [{"email": "sailor@example.com"}])["status"] == "succeeded"
    assert rows(database, "select count(*) from shop.supplier where email = 'sailor@example.com'") == [(1,)]
    for client, resource in ((sailor, "stock"), (admin, "sealed")):
        answer = client.post(
            "/api/v1/imports",
            headers={"Idempotency-Key": next(KEYS)},
            files={"file": ("a.ndjson", lines([{"a": 1, "b": 1}]))},
            data={"resource": resource},
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "UNSUPPORTED_RESOURCE"), answer.text
        (message,) = answer.json()["errors"]["resource"]
        assert "open" in message
        assert resource not in message
    assert rows(database, "select count(*) from shop.two_keys") == [(0,)]


FAULTY = [
    stock("GOOD", label="abc"),
    stock("BAD", amount=-1, state="stolen", label="too long", supplier_id=999, counted_at="2026-01-31T09:30:00Z"),
    {"sku": "NONE", "amount": None},
    stock("TWICE", label="abc"),
    stock("GOOD"),
]
FAULTS = {
    (1, 1003, "amount", "amount_not_negative"),
    (1, 1006, "state", None),
    (1, 1004, "label", None),
    (1, 1008, "supplier_id", "stock_supplier_id_fkey"),
    (1, 1003, "counted_at", None),
    (2, 1001, "depot", None),
    (2, 1001, "amount", None),
    (3, 1007, "label", "stock_label_key"),
    (4, 1007, None, "stock_pkey"),
}


@pytest.mark.parametrize(
    ("options", "written"),
    [({"dryRun": "true"}, 0), ({"atomic": "true"}, 0), ({}, 1)],
    ids=["dryRun", "atomic", "plain"],
)
def test_every_fault_is_reported_by_field_with_the_constraints_name(
    admin: httpx.Client, database: str, options: dict[str, str], written: int
) -> None:
    job = imported(admin, "stock", FAULTY, **options)
    found = errors_of(admin, job)
    assert {
        (error["recordIndex"], error["errorCode"], error["field"], (error["details"] or {}).get("constraint"))
        for error in found
        if error["recordIndex"] >= 0
    } == FAULTS
    (broken,) = [error["message"] for error in found if error["details"] == {"constraint": "amount_not_negative"}]
    assert broken == "amount: Nobody owes us goods."
    assert rows(database, "select count(*) from shop.stock where sku in ('GOOD', 'BAD', 'NONE')") == [(written,)]


def test_on_conflict_decides_what_becomes_of_a_row_that_exists(admin: httpx.Client, database: str) -> None:
    assert imported(admin, "stock", [stock("C", amount=5, label="old", meta={"a": 1})])["status"] == "succeeded"
    again = [{"depot": "north", "sku": "C", "label": None}, stock("D"), stock("D", amount=9)]
    state = "select amount, label, meta from shop.stock where sku = 'C'"
    refused = imported(admin, "stock", again[:1])
    assert refused["status"] == "failed"
    # Both are reported: the record could not create a row either.
    found = [(error["errorCode"], error["field"]) for error in errors_of(admin, refused)]
    assert found == [(1007, None), (1001, "amount")]
    skipped = imported(admin, "stock", again[:1], onConflict="skip")
    assert (skipped["status"], skipped["successCount"]) == ("succeeded", 1)
    assert rows(database, state) == [(5, "old", {"a": 1})]
    updated = imported(admin, "stock", again, onConflict="update")
    assert (updated["successCount"], updated["errorCount"]) == (2, 1)
    assert rows(database, state) == [(5, None, {"a": 1})]
    assert rows(database, "select amount from shop.stock where sku = 'D'") == [(1,)]


def test_the_schema_of_an_import_accepts_what_the_import_accepts(admin: httpx.Client) -> None:
    schema = admin.get("/api/v1/resources/stock/schema").json()["import"]
    validator = jsonschema_rs.Draft202012Validator(schema)
    candidates = [
        stock("S-1"),
        stock("S-2", state="it's", label=None, meta=[1], supplier_id=1, counted_at="2026-01-31T09:30:00.5", number=7),
        stock("S-3", unknown=1),
        stock("S-4", amount="x"),
        stock("S-5", amount=1.5),
        stock("S-6", amount=None),
        stock("S-7", state=None),
        stock("S-8", state="stolen"),
        stock("S-9", label="123456"),
        {"depot": "north", "sku": "S-10"},
        stock("S-11", supplier_id=[]),
        stock("S-12", amount=2_147_483_648),
    ]
    job = imported(admin, "stock", candidates)
    refused = {error["recordIndex"] for error in errors_of(admin, job)}
    assert job["successCount"] == 3
    assert [validator.is_valid(record) for record in candidates] == [
        index not in refused for index in range(len(candidates))
    ]


def wait_for_lock(connection: psycopg.Connection[Any], table: str) -> None:
    """Wait until another session waits for a lock of the table."""
    query = "select count(*) from pg_locks where relation = %s::regclass and not granted"
    deadline = time.monotonic() + 30
    while connection.execute(query, [table]).fetchone() == (0,):
        assert time.monotonic() < deadline, f"nobody waits for {table}"
        time.sleep(0.02)


def test_a_table_that_changes_under_a_job_fails_it_and_later_imports_use_the_new_one(
    admin: httpx.Client, database: str
) -> None:
    records = [{"id": 1, "gone": "a", "kept": "b"}]
    with psycopg.connect(database) as connection:
        connection.execute("lock table shop.changing in access exclusive mode")
        job = import_file(admin, "changing", lines(records), key=next(KEYS))
        wait_for_lock(connection, "shop.changing")
        connection.execute("alter table shop.changing drop column gone, add column fresh int check (fresh > 0)")
    failed = finished(admin, job["id"])
    assert (failed["status"], failed["successCount"]) == ("failed", 0), failed
    assert failed["errorSummary"]["lastError"]["code"] == "DATABASE_ERROR"
    assert "The table has changed" in failed["errorSummary"]["lastError"]["message"]
    later = imported(admin, "changing", [{"id": 1, "kept": "b", "fresh": 2}, {"id": 2, "fresh": 0}])
    assert (later["status"], later["successCount"], later["errorCount"]) == ("partial", 1, 1)
    assert [error["field"] for error in errors_of(admin, later)] == ["fresh"]
    assert rows(database, "select id, kept, fresh from shop.changing") == [(1, "b", 2)]
