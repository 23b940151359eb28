from __future__ import annotations

import pytest

from tests.unit.memvid.makers import frame
from wherry.memvid.search_text import SearchText, search_text


@pytest.mark.parametrize("amount", SearchText)
def test_title_first_paragraph_and_identifiers_can_always_be_searched(amount: SearchText) -> None:
    made = frame(3, text="Function: name_3\nid: 3\nfile: src/a/b.py\n\nother_name(other_name, x.y)")
    words = search_text(made, amount)
    for expected in ("Function: name_3", "file: src/a/b.py", "other_name", "x.y"):
        assert expected in words


def test_the_lean_form_has_each_identifier_once_and_is_shorter() -> None:
    made = frame(text="Function: name_0\n\n" + "again = again + once\n" * 50, name=None)
    lean = search_text(made, SearchText.LEAN)
    assert lean.split().count("again") == 1
    assert len(lean) < len(search_text(made, SearchText.FULL)) / 5


@pytest.mark.parametrize("amount", SearchText)
def test_every_form_has_the_uri(amount: SearchText) -> None:
    assert "mv2://nodes/0" in search_text(frame(), amount)


def test_a_name_is_repeated_the_more_the_longer_its_frame() -> None:
    short, long = frame(text="name_0"), frame(text="name_0\n\n" + "word " * 400)
    counts = [search_text(made, SearchText.FULL).count("name_0\n") for made in (short, long)]
    assert counts[0] >= 2
    assert counts[1] > 5 * counts[0]


@pytest.mark.parametrize("amount", SearchText)
@pytest.mark.parametrize("text", ["", " ", "\n\n", "--"])
def test_it_is_never_blank(text: str, amount: SearchText) -> None:
    assert search_text(frame(title=text, text=text, name=None), amount).strip()


def test_a_frames_own_search_text_comes_first() -> None:
    assert search_text(frame(search_text="just this"), SearchText.FULL) == "just this"
