from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from wherry.http.table_schemas import components_of, export_schema, import_schema
from wherry.tables.model import Column, Table, TableName
from wherry.tables.types import CatalogType, find_type

TEXT = CatalogType(oid=1, schema="pg_catalog", name="text", sql_name="pg_catalog.text")
TYPES = {
    1: TEXT,
    2: CatalogType(oid=2, schema="pg_catalog", name="_text", sql_name="pg_catalog._text", element=1),
    3: CatalogType(oid=3, schema="s", name="size", sql_name="s.size", labels=["a", "A", ""]),
    4: CatalogType(oid=4, schema="s", name="state", sql_name="s.state", labels=["draft", "live"]),
}


def table(name: str, *, roles: tuple[str, ...] = ("admin",), **types: int) -> Table:
    """A table with columns of these types, by their oids."""
    columns = {
        column: Column(name=column, type=find_type(oid, -1, TYPES), declared="", cast="")
        for column, oid in (types or {"id": 1}).items()
    }
    return Table(
        name=name,
        relation=TableName("s", name),
        columns=columns,
        fields=tuple(columns),
        key=(),
        import_roles=roles,
        export_roles=("admin",),
    )


def named(*names: str, taken: tuple[str, ...] = ()) -> list[str]:
    """The components of tables with these names."""
    return list(components_of({name: table(name) for name in names}, taken))


@pytest.mark.parametrize(
    ("name", "component"),
    [("price", "Price"), ("price_list", "PriceList"), ("price-list", "PriceList"), ("a1__2-", "A12"), ("a", "A")],
)
def test_components_are_named_for_their_tables(name: str, component: str) -> None:
    assert named(name) == [f"{component}Import", f"{component}Export"]


def test_names_that_are_taken_get_a_number() -> None:
    assert named("price_list", "price-list", "pricelist", "price_list2")[::2] == [
        "PriceListImport",
        "PriceList2Import",
        "Pricelist3Import",
        "PriceList22Import",
    ]
    assert named("new", taken=("NewExport",)) == ["New2Import", "New2Export"]


NAMES = st.lists(st.from_regex(r"[ab][ab2_-]{0,4}", fullmatch=True), unique=True, max_size=20)


@given(NAMES)
def test_no_two_components_have_similar_names(names: list[str]) -> None:
    components = named(*names, taken=("AImport", "B2Export"))
    assert len({name.lower() for name in (*components, "AImport", "B2Export")}) == 2 * len(names) + 2


def test_components_are_the_tables_schemas_with_a_name() -> None:
    one = table("price", label=1, state=4)
    components = components_of({"price": one}, ())
    for name, schema in {"PriceImport": import_schema(one), "PriceExport": export_schema(one)}.items():
        assert {**schema, "title": name} == {key: components[name][key] for key in schema}


def test_a_direction_that_no_role_may_use_has_no_schema() -> None:
    assert list(components_of({"price": table("price", roles=())}, ())) == ["PriceExport"]


def test_every_array_says_what_its_elements_are() -> None:
    [array, null] = export_schema(table("price", tags=2))["properties"]["tags"]["anyOf"]
    assert array["items"] == {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array", "items": {}}]}
    assert null == {"type": "null"}
    assert Draft202012Validator(array).is_valid(["a", None, ["b"]])


def test_values_of_an_enum_that_generated_clients_cannot_tell_apart_have_names() -> None:
    properties = components_of({"price": table("price", size=3, state=4, enum=1)}, ())["PriceExport"]["properties"]
    assert properties["size"]["anyOf"][0]["x-enum-varnames"] == ["VALUE_0", "VALUE_1", "VALUE_2"]
    assert properties["state"]["anyOf"][0] == {"enum": ["draft", "live"]}
    assert list(properties) == ["size", "state", "enum"]
