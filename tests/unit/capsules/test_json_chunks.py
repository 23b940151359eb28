from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.capsules import json_chunks
from wherry.capsules.json_chunks import LongString, array_chunks, object_chunks

text = st.text(st.characters(exclude_categories=["Cs"])) | st.text('"\\,:{}[]\n é😀', max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
layouts = st.sampled_from([None, 1]), st.booleans()
small = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[1, 40, 1 << 16])
def chunk_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_chunks, "CHUNK_BYTES", request.param)
    monkeypatch.setattr(json_chunks, "LONG_STRING_BYTES", 15)


@small
@given(st.lists(values), *layouts)
def test_an_array_in_chunks_has_the_same_elements(
    chunk_bytes: None, elements: list[Any], indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(elements, indent=indent, ensure_ascii=ascii_only).encode()
    chunks = array_chunks(memoryview(data), msgspec.json.decode)
    assert [element for chunk in chunks for element in chunk] == msgspec.json.decode(data)


@small
@given(st.dictionaries(text, text | st.none()), *layouts)
def test_an_object_in_chunks_has_the_same_members(
    chunk_bytes: None, members: dict[str, str | None], indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(members, indent=indent, ensure_ascii=ascii_only).encode()
    assert {
        name: "".join(map(msgspec.json.decode, value)) if isinstance(value, LongString) else value
        for chunk in object_chunks(memoryview(data), msgspec.json.Decoder(dict[str, str | None]).decode)
        for name, value in chunk
    } == members


def nested(number: int) -> dict[str, Any]:
    return {"id": str(number), "properties": {"name": "},", "more": {}}, "label": "Function"}


@pytest.mark.parametrize("layout", [",", ", ", " , ", "\n,\t"])
def test_many_elements_are_decoded_at_a_time(layout: str) -> None:
    elements = [json.dumps(nested(number)) for number in range(20_000)]
    data = f"[{layout.join(elements)}]".encode()
    chunks = list(array_chunks(memoryview(data), msgspec.json.decode))
    assert sum(map(len, chunks)) == len(elements)
    assert len(chunks) < 3 * len(data) / json_chunks.CHUNK_BYTES


@pytest.mark.parametrize("layout", [",", " , "])
@pytest.mark.parametrize("value", ['"x"', "null"])
def test_many_members_are_decoded_at_a_time(layout: str, value: str) -> None:
    members = layout.join(f'"{number}": {value}' for number in range(50_000))
    data = f"{{{members}}}".encode()
    chunks = list(object_chunks(memoryview(data), msgspec.json.Decoder(dict[str, str | None]).decode))
    assert sum(map(len, chunks)) == 50_000
    assert len(chunks) < 3 * len(data) / json_chunks.CHUNK_BYTES
