"""The policies of the built-in tables are consistent with themselves. New ones are covered too."""

from __future__ import annotations

import msgspec
import pytest

from tests.builtin_tables import TABLES
from wherry.errors import Invalid
from wherry.tables.builtin import BUILT_IN
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table
from wherry.tables.registry import find_table

each = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))


@each
def test_the_typed_record_has_the_same_fields_as_the_rules(table: Table) -> None:
    shape = shape_of(table)
    declared = {field.name: field.required for field in shape.fields}
    typed = {field.name: field.required for field in msgspec.structs.fields(shape.record)}
    assert declared == typed


@each
def test_the_record_has_a_json_schema_that_requires_what_the_rules_require(table: Table) -> None:
    schema = msgspec.json.schema(shape_of(table).record)
    (record,) = schema["$defs"].values()
    assert set(record["required"]) == {field.name for field in shape_of(table).fields if field.required}
    assert record["properties"]["id"]


@each
def test_the_keys_that_name_a_row_come_first(table: Table) -> None:
    naming = [unique.columns[0] for unique in table.uniques if unique.names_row]
    assert naming == ["id", *BUILT_IN[table.name].names]
    assert [unique.names_row for unique in table.uniques] == sorted(
        (unique.names_row for unique in table.uniques), reverse=True
    )


@pytest.mark.parametrize("name", ["user", "u sers", "", None, 5, ["users"]])
def test_an_unknown_table_is_refused_with_a_list_of_tables(name: object) -> None:
    with pytest.raises(Invalid, match="resource must be one of users, articles, comments") as refused:
        find_table(TABLES, name)
    assert refused.value.code == "UNSUPPORTED_RESOURCE"
