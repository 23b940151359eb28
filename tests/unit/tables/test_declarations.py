from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import Misconfigured
from wherry.tables.declarations import (
    Declaration,
    Declarations,
    find_declarations,
    parse_declarations,
    parse_table_name,
)
from wherry.tables.model import TableName

WHOLE = """
builtin = false

[tables]
suppliers = "shop.supplier"
prices = { table = "shop.price", key = ["tenant", "sku"], exclude = ["margin"], read_only = ["updated_at"],
           filters = ["state", "supplier_id"], references = { supplier_id = "email" },
           import_roles = ["admin"], export_roles = ["admin", "user"] }
audit = { table = "shop.audit_log", import = false }
"""


def test_a_file_declares_each_table_in_a_line_or_with_every_key() -> None:
    declared = parse_declarations(WHOLE, "tables.toml")
    assert not declared.builtin
    assert declared.tables == {
        "suppliers": Declaration(table="shop.supplier"),
        "prices": Declaration(
            table="shop.price",
            key=("tenant", "sku"),
            exclude=("margin",),
            read_only=("updated_at",),
            filters=("state", "supplier_id"),
            references={"supplier_id": "email"},
            import_roles=("admin",),
            export_roles=("admin", "user"),
        ),
        "audit": Declaration(table="shop.audit_log", importable=False),
    }


def test_without_a_file_only_the_built_in_tables_are_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_declarations(None) == Declarations(builtin=True, tables={})
    (tmp_path / "tables.toml").write_text('[tables]\na = "b.c"\n')
    assert list(find_declarations(None).tables) == ["a"]
    with pytest.raises(Misconfigured, match="cannot be read"):
        find_declarations(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tables = ", "t: t is not valid TOML: Invalid value (at end of document)".replace("t: t", "t")),
        ("bultin = true", "t: bultin is not a known key; did you mean builtin?"),
        ("builtin = 1", "t: builtin must be true or false"),
        ("tables = 1", "t: tables must be a section: [tables]"),
        ('[tables]\nUsers = "a.b"', "t: tables.Users must be named with a-z, 0-9, _ and -, beginning with a letter"),
        ("[tables]\na = 1", "t: tables.a must be the name of a table"),
        ("[tables]\na = {}", "t: tables.a is wrong: Object missing required field `table`"),
        ('[tables]\na = { tabel = "b.c" }', "t: tables.a.tabel is not a known key; did you mean table?"),
        ('[tables]\na = { table = "b.c", importable = true }', "t: tables.a.importable is not a known key"),
        ('[tables]\na = { table = "b.c", key = "id" }', "t: tables.a is wrong: Expected `array | null`, got `str`"),
        ('[tables]\na = { table = "b.c", export_roles = ["root"] }', "Invalid enum value 'root' - at `$.export_roles"),
        ('[tables]\na = "price"', "t: tables.a.table must be a schema and a name, such as shop.supplier"),
        ('[tables]\na = "b.c.d"', "t: tables.a.table must be a schema and a name"),
        ('[tables]\na = "b.c; drop table users"', "t: tables.a.table must be a schema and a name"),
        ('[tables]\na = "pg_catalog.pg_authid"', "pg_catalog.pg_authid belongs to PostgreSQL itself"),
        ('[tables]\na = "PG_TOAST.x"', "belongs to PostgreSQL itself"),
        ('[tables]\na = "information_schema.tables"', "belongs to PostgreSQL itself"),
        ('[tables]\na = "wherry.jobs"', "wherry.jobs belongs to wherry itself; declare a table of your own"),
        ("[tables]\na = '\"wherry\".users'", "belongs to wherry itself"),
    ],
)
def test_a_fault_is_reported_with_its_place_and_the_way_out(text: str, fault: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_declarations(text, "t")
    assert fault in str(refused.value)


def test_all_faults_of_a_file_are_reported_together() -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_declarations('bultin = true\n[tables]\na = 1\nb = { table = "c" }\n', "t")
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop.price", TableName("shop", "price")),
        ("Shop.PRICE", TableName("shop", "price")),
        (' shop . "Price List" ', TableName("shop", "Price List")),
        ('"a.b"."c""d"', TableName("a.b", 'c"d')),
        ("größe.maß", TableName("größe", "maß")),
    ],
)
def test_a_table_is_named_as_in_sql(text: str, name: TableName) -> None:
    assert parse_table_name(text) == name


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(NAMES, NAMES)
def test_any_name_can_be_written_and_read_again(schema: str, name: str) -> None:
    given_name = TableName(schema, name)
    assert parse_table_name(str(given_name)) == given_name
