"""Finds out what a declaration's `references` mean: `{ supplier_id = "email" }`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wherry.errors import Misconfigured
from wherry.tables.declarations import nearest, owner_of
from wherry.tables.model import Column, ReferenceField, Table, TableName
from wherry.tables.shape import FieldRule
from wherry.tables.types import Form

_SUFFIX = "_id"


@dataclass(frozen=True)
class Target:
    """A table that others refer to, as the catalog has it.

    Attributes:
        relation: its name.
        names: of all columns.
        columns: those that we may read, by name.
        unique: the names of those that no two rows have the same value of.
        is_restricted: whether row-level security decides which rows we may read.
    """

    relation: TableName
    names: Sequence[str]
    columns: Mapping[str, Column]
    unique: Collection[str]
    is_restricted: bool


class ForeignKey(NamedTuple):
    """A foreign key of one column, and the column of the target that it refers to."""

    target: Target
    referenced: str


def reference_field(
    table: Table,
    column: str,
    key: str,
    foreign_keys: Sequence[ForeignKey],
    hidden: Collection[tuple[TableName, str]],
) -> ReferenceField:
    """The field by which records name the row that a column refers to.

    Args:
        table: that has the column.
        column: the declared column.
        key: the column of the other table that names the row.
        foreign_keys: those of this column alone.
        hidden: the columns that are excluded, whatever the resource.

    Raises:
        Misconfigured: the key names no row, or must not be known.
    """
    if not foreign_keys or column not in table.columns:
        raise Misconfigured(f"references: {column} of {table.relation} is not a foreign key of one column")
    target, referenced = next((each for each in foreign_keys if key in each.target.names), foreign_keys[0])
    _require_key(table.relation, target, key, hidden)
    unreadable = next((each for each in (key, referenced) if each not in target.columns), None)
    if unreadable is not None:
        raise Misconfigured(f"references: the database role may not read the column {unreadable} of {target.relation}")
    type_ = target.columns[key].type
    if type_.form in (Form.JSON, Form.BYTES):
        raise Misconfigured(f"references: {key} of {target.relation} has a type that cannot name a row")
    short = column.removesuffix(_SUFFIX)
    name = column if not short or short in table.columns else short
    return ReferenceField(
        name=name,
        column=column,
        target=target.relation,
        referenced=target.columns[referenced],
        key=target.columns[key],
        rule=FieldRule(type_.annotation, type_.rule),
        is_nullable=table.columns[column].is_nullable or table.has_own_rules,
        may_lack_key=target.columns[key].is_nullable or target.is_restricted,
        label=name,
    )


def _require_key(relation: TableName, target: Target, key: str, hidden: Collection[tuple[TableName, str]]) -> None:
    name = target.relation
    owner = owner_of(name.schema)
    if owner is not None and name.schema != relation.schema:
        raise Misconfigured(f"references: {name} belongs to {owner} itself")
    if key not in target.names or (name, key) in hidden:
        known = [each for each in target.names if (name, each) not in hidden]
        raise Misconfigured(f"references: {name} has no column {key}, or excludes it{nearest(key, known)}")
    if key not in target.unique:
        raise Misconfigured(f"references: {key} of {name} is not unique, so it cannot name a row")
