"""Every resource's declaration is consistent with its SQL and with itself. New resources are covered too."""

from __future__ import annotations

import re

import msgspec
import pytest

from wherry.database.queries import load
from wherry.errors import Invalid
from wherry.imports.plan import PlannedRow
from wherry.resources.model import Resource
from wherry.resources.registry import RESOURCES, find_resource

each = pytest.mark.parametrize("resource", RESOURCES.values(), ids=list(RESOURCES))


@each
def test_the_typed_record_has_the_same_fields_as_the_rules(resource: Resource) -> None:
    declared = {field.name: field.required for field in resource.shape.fields}
    typed = {field.name: field.required for field in msgspec.structs.fields(resource.shape.record)}
    assert declared == typed


@each
def test_the_record_has_a_json_schema_that_requires_what_the_rules_require(resource: Resource) -> None:
    schema = msgspec.json.schema(resource.shape.record)
    (record,) = schema["$defs"].values()
    assert set(record["required"]) == {field.name for field in resource.shape.fields if field.required}
    assert record["properties"]["id"]


@each
def test_new_rows_are_copied_in_the_order_of_the_columns(resource: Resource) -> None:
    copied = re.search(r"copy wherry\.\w+ \(([^)]*)\)", load(resource.name, "resources")["copy"])
    assert copied is not None
    assert [name.strip() for name in copied[1].split(",")] == ["id", "import_job_id", *resource.shape.columns]


@each
def test_an_update_knows_every_column_that_may_be_cleared(resource: Resource) -> None:
    told = re.findall(r"then given\.(\w+) else", load(resource.name, "resources")["update"])
    assert set(told) == resource.shape.clearable
    assert resource.shape.clearable <= resource.shape.columns.keys()


@each
def test_a_lookup_returns_the_columns_of_a_row_in_order(resource: Resource) -> None:
    selected = load(resource.name, "resources")["lookup"].partition("\nfrom ")[0]
    selected = re.sub(r"--.*\n", "", selected).removeprefix("select ")
    names = [column.split()[-1] for column in selected.split(",")]
    assert names == list(PlannedRow.__struct_fields__[: len(names)])
    assert ("first_key" in names) == resource.keeps_first_key


@each
def test_references_name_resources_that_come_before(resource: Resource) -> None:
    order = list(RESOURCES)
    assert all(order.index(name) < order.index(resource.name) for name in resource.references.values())


@pytest.mark.parametrize("name", ["user", "u sers", "", None, 5, ["users"]])
def test_an_unknown_resource_is_refused_with_a_list_of_resources(name: object) -> None:
    with pytest.raises(Invalid, match="resource must be one of users, articles, comments") as refused:
        find_resource(name)
    assert refused.value.code == "UNSUPPORTED_RESOURCE"
