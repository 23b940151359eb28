from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from wherry.accounts.models import NOT_BLANK
from wherry.http.schemas import one_of, schemas_of, without_null
from wherry.jobs.states import Kind

Colour = Annotated[str, one_of("Colour", ["red", "blue"])]


class Sent(Struct):
    """What is sent."""

    name: Annotated[str | None, NOT_BLANK] = None
    alias: Annotated[str | UnsetType | None, NOT_BLANK] = UNSET
    bio: str | None = None
    colour: Annotated[Colour | None, Meta(description="Of the whole.")] = None
    kind: Kind = Kind.IMPORT


def test_a_text_that_must_not_be_blank_is_described_as_required_and_never_null() -> None:
    _, components = schemas_of(Sent)
    properties = components["Sent"]["properties"]
    assert components["Sent"]["required"] == ["name"]
    assert properties["name"] == properties["alias"] == {"type": "string", "minLength": 1}
    assert properties["bio"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_an_enumeration_is_a_component_whether_or_not_it_is_a_class() -> None:
    (colour, _), components = schemas_of(Colour, Sent)
    assert colour == {"$ref": "#/components/schemas/Colour"}
    assert components["Colour"] == {"title": "Colour", "type": "string", "enum": ["blue", "red"]}
    assert components["Kind"]["type"] == "string"
    assert without_null(components["Sent"]["properties"]["colour"]) == {**colour, "description": "Of the whole."}
    assert components["Sent"]["properties"]["kind"] == {"$ref": "#/components/schemas/Kind", "default": "import"}
