from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from wherry.tables.adoption import in_order
from wherry.tables.model import Table, TableName


def tables(references: dict[str, set[str]]) -> dict[str, Table]:
    return {
        name: Table(
            name=name,
            relation=TableName("s", name),
            columns={},
            fields=(),
            key=(),
            references=frozenset(TableName("s", target) for target in targets if target != name),
        )
        for name, targets in references.items()
    }


def test_referenced_tables_come_first_whatever_their_names() -> None:
    found, cycles = in_order(tables({"a": {"c"}, "c": {"elsewhere"}, "d": {"a"}}))
    assert [table.name for table in found] == ["c", "a", "d"]
    assert cycles == []


def test_a_cycle_is_named_and_does_not_hide_the_order_of_other_tables() -> None:
    found, cycles = in_order(tables({"a": {"b"}, "b": {"a", "z"}, "c": {"b"}, "z": set()}))
    names = [table.name for table in found]
    assert sorted(names) == ["a", "b", "c", "z"]
    assert names.index("z") < names.index("b") < names.index("c")
    assert [set(cycle) for cycle in cycles] == [{"a", "b"}]


def test_both_names_of_a_referenced_table_come_first() -> None:
    named = tables({"a": {"c"}, "b": {"c"}, "c": set()})
    named["z"] = replace(named["c"], name="z")
    assert [table.name for table in in_order(named)[0]] == ["c", "z", "a", "b"]


NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.sets(NAMES)))
def test_every_reference_outside_of_cycles_is_respected(references: dict[str, set[str]]) -> None:
    found, cycles = in_order(tables(references))
    names = [table.name for table in found]
    assert sorted(names) == sorted(references)
    cut = {(cycle[1], cycle[0]) for cycle in cycles}
    for name, targets in references.items():
        for target in (targets & references.keys()) - {name}:
            assert names.index(target) < names.index(name) or (name, target) in cut
