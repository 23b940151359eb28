from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.capsules.sources import WholeFile
from wherry.capsules.symbols import Symbol
from wherry.capsules.texts import Text, Texts

LONG = "x" * 9000
lines = st.lists(st.sampled_from(["", "a", "é", "😀 b", LONG, LONG + "é"]), max_size=300)


def stored(content: str, *, parts: int = 1) -> Text:
    size = len(content) // parts + 1
    split = [content[at : at + size] for at in range(0, len(content), size)]
    text = Texts([("other", ["é"]), ("file", ["older"]), ("file", split), ("last", ["x\n"])]).get("file")
    assert text is not None
    return text


@given(lines, st.integers(0, 300), st.integers(0, 300), st.integers(1, 3))
def test_a_passage_is_its_lines_whatever_their_length(all_lines: list[str], first: int, more: int, parts: int) -> None:
    content = "\n".join([*all_lines, "end"])
    passage = WholeFile(stored(content, parts=parts), 100).of(Symbol(first, first + more, None))
    if first > len(all_lines):
        assert passage is None
    else:
        expected = "\n".join(content.split("\n")[first : first + more + 1])
        assert passage is not None
        assert (passage.beginning[:100], passage.chars) == (expected[:100], len(expected))


@pytest.mark.parametrize("content", ["a", "é", "😀", "aé", "é😀x", "😀" * 10])
def test_a_text_has_its_first_and_last_characters(content: str) -> None:
    text = stored(content)
    assert (text.all(), text.head(1), text.tail(1), text.tail(5)) == (content, content[0], content[-1], content[-5:])


def test_an_empty_content_replaces_an_earlier_one() -> None:
    assert Texts([("a", ["x"]), ("a", ())]).get("a") is None
