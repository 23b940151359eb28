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
    nearest,
    parse_declarations,
    parse_table_name,
    read_declarations,
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
        ('[tables]\na = "wHeRrY\\n.\\tUSERS"', "wherry.users belongs to wherry itself"),
        ("[tables]\na = 'pg_catalog.\"pg_authid\"'", "pg_catalog.pg_authid belongs to PostgreSQL itself"),
        ("[tables]\na = '\"pg_temp_3\".x'", "belongs to PostgreSQL itself"),
    ],
)
def test_a_fault_is_reported_with_its_place_and_the_way_out(text: str, fault: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_declarations(text, "t")
    assert fault in str(refused.value)


NUL, ESCAPE, TABLES = "\0", "\\u001b[31m", "[tables]\n"
ODD = [
    pytest.param(f"{TABLES}a = 'b.c{NUL}'", "is not valid TOML", id="NUL"),
    pytest.param(TABLES + r'a = "b.\"c\u0000\""', "tables.a.table must be a schema", id="escaped NUL"),
    pytest.param(TABLES + 'a = "b.c;"', "tables.a.table must be a schema", id="semicolon"),
    pytest.param(TABLES + "a = 'b.\"c'", "tables.a.table must be a schema", id="open quote"),
    pytest.param(TABLES + "a = 'b.\"\"'", "tables.a.table must be a schema", id="empty name"),
    pytest.param(TABLES + 'a = "wherry\u00a0.c"', "tables.a.table must be a schema", id="no-break space"),
    pytest.param(TABLES + r'a = "b.\ud800"', "is not valid TOML", id="surrogate"),
    pytest.param(f"{TABLES}a = 'b.\"{'ä' * 32}\"'", "has a name of more than 63 bytes", id="64 bytes"),
    pytest.param(f"{TABLES}a = 'b.{'c' * 10_000_000}'", "has a name of more than 63 bytes", id="10 MB name"),
    pytest.param(TABLES + 'a = "b.c"\na = "b.d"', "is not valid TOML", id="a name twice"),
    pytest.param(f'{TABLES}a = "b.c"\n{TABLES}b = "b.d"', "is not valid TOML", id="a section twice"),
    pytest.param(TABLES + 'a = { table = "b.c", table = "b.d" }', "is not valid TOML", id="a key twice"),
    pytest.param(TABLES + 'a = { table = "b.c", key = ["d", "d"] }', "tables.a.key has a column twice", id="key"),
    pytest.param('[[tables]]\na = "b.c"', "tables must be a section", id="array of tables"),
    pytest.param(TABLES + "a = 1979-05-27", "tables.a must be the name of a table", id="date"),
    pytest.param(TABLES + "a = 1.5", "tables.a must be the name of a table", id="float"),
    pytest.param(TABLES + "a = { table = 07:32:00 }", "Expected `str`, got `time`", id="time"),
    pytest.param(TABLES + 'a = { table = "b.c", key = [nan] }', "Expected `str`, got `float`", id="NaN"),
    pytest.param(TABLES + 'a = { table = "b.c", import = 1 }', "Expected `bool`, got `int`", id="number"),
    pytest.param(f'{TABLES}"a{ESCAPE}" = "b.c"', f'tables."a{ESCAPE}" must be named', id="control character"),
    pytest.param("b" * 5_000_000 + " = 1", "b" * 80 + "… is not a known key", id="5 MB key"),
    *(
        pytest.param(f"{TABLES}a = {opening * depth}1{closing * depth}", "tables.toml", id=f"{depth} {opening}")
        for depth in (100, 1_000, 100_000)
        for opening, closing in (("[", "]"), ("{a=", "}"))
    ),
    *(pytest.param(".".join(["tables"] * depth) + " = 1", "tables.toml", id=f"{depth} dots") for depth in (99, 99_999)),
]


@pytest.mark.parametrize(("text", "fault"), ODD)
def test_an_odd_file_is_refused_with_short_messages(text: str, fault: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_declarations(text, "tables.toml")
    lines = str(refused.value).splitlines()
    assert any(fault in line for line in lines)
    assert len(lines) <= 2
    assert all(line.startswith("tables.toml") and len(line) < 300 and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("'\"Wherry\".users'", TableName("Wherry", "users")),
        ("'\"PG_x\".a'", TableName("PG_x", "a")),
        ("'b.\"c; drop table d\"'", TableName("b", "c; drop table d")),
        (r'"b.\"c\n\"\"\""', TableName("b", 'c\n"')),
        (f"'b.\"{'ä' * 31}x\"'", TableName("b", "ä" * 31 + "x")),
    ],
)
def test_an_odd_name_of_a_users_own_table_is_accepted(value: str, name: TableName) -> None:
    assert parse_declarations(f"{TABLES}a = {value}", "t").tables["a"].relation == name


def test_two_names_for_one_table_and_the_name_of_a_built_in_one_are_accepted() -> None:
    declared = parse_declarations(TABLES + 'users = "b.c"\nothers = "B.C"', "t").tables
    assert declared["users"].relation == declared["others"].relation == TableName("b", "c")


def test_a_file_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "tables.toml"
    path.write_bytes(b'\xef\xbb\xbf[tables]\r\na = "b.c"\r\n')
    assert list(read_declarations(path).tables) == ["a"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_declarations(path)


def test_the_nearest_name_is_not_sought_among_very_many() -> None:
    assert nearest("t1000x", [f"t{number}" for number in range(1000, 2000)]) == "; did you mean t1000?"
    assert nearest("t1000x", [f"t{number}" for number in range(1000, 2001)]) == ""


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
