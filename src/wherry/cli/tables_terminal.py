"""What `wherry tables` says about a table, and about imports into it: who may, what they need, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.tables.declarations import Declaration
from wherry.tables.derivation import shape_of
from wherry.tables.model import Column, Table

NO_RIGHT = "the database role may not insert into it"


def not_imported(table: Table, declared: Declaration | None) -> str | None:
    """Why nobody may import into a table, or None if somebody may."""
    if table.import_roles:
        return None
    if declared is None or not declared.importable:
        return "import = false"
    return NO_RIGHT if declared.import_roles else "import_roles is empty"


def required_fields(table: Table) -> tuple[str, ...]:
    """The fields without which a record cannot create a row."""
    shape = shape_of(table)
    if table.policy is not None:
        natural = (shape.required_for_new[0],) if shape.required_for_new else ()
        return (*natural, *(field.name for field in shape.fields if field.required and field.name not in natural))
    if table.has_own_rules:  # a trigger may provide what is absent
        return ()
    return tuple(column.name for column in table.columns.values() if column.is_required)


def use_in_imports(table: Table, column: Column, declared: Declaration | None) -> str:
    """What an import does with a column."""
    if table.policy is None and not column.is_importable:
        return f"no: {_why_not(column, declared)}"
    if column.name not in shape_of(table).places:
        return "no"
    if column.name in required_fields(table):
        return "required"
    return "optional" if column.is_settable or column.name in table.key else "in new rows only"


def import_summary(table: Table, declared: Declaration | None) -> str:
    """How a table is imported into, in a line."""
    reason = not_imported(table, declared)
    if reason is not None:
        return f"no: {reason}"
    parts = [f"by {', '.join(table.import_roles)}"]
    if not table.key:
        parts.append("every record is a new row, because there is no key")
    required = required_fields(table)
    parts.append(f"a new row needs {', '.join(required)}" if required else "a new row needs no field")
    if table.key and not any(column.is_settable for column in table.columns.values()):
        parts.append("rows that exist cannot be updated")
    left_out = ", ".join(f"{name} ({reason})" for name, reason in left_out_fields(table, declared))
    if left_out:
        parts.append(f"not imported: {left_out}")
    return "; ".join(parts)


def warnings_of(table: Table) -> Iterator[str]:
    """What to know before a table is offered."""
    yield from table.warnings
    if not table.is_built_in and table.import_roles:
        for each in table.reference_fields:
            yield (
                f"whoever may import into {table.relation} can find out which values {each.target} has in "
                f"{each.key.name}, because of references"
            )


def left_out_fields(table: Table, declared: Declaration | None) -> Iterator[tuple[str, str]]:
    """The columns that imports do not write, each with the reason."""
    if table.policy is None:
        for column in table.columns.values():
            if not column.is_importable:
                yield column.name, _why_not(column, declared)


def _why_not(column: Column, declared: Declaration | None) -> str:
    if column.is_generated:
        return "generated"
    return "read_only" if declared is not None and column.name in declared.read_only else "no right to insert"
