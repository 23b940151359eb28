from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.memvid.safe_text import ESCAPE, cut, guard, make_safe, restore

any_text = st.text(st.characters(exclude_categories=[])) | st.text("\u241b.u\ud8000DF%PD \ufeff\n", max_size=20)


@given(any_text)
def test_a_safe_text_is_utf8_and_gives_the_original_back(text: str) -> None:
    safe = guard(make_safe(text))
    safe.encode()
    assert restore(safe) == text


@pytest.mark.parametrize("text", ["%PDF-1.4", "  \n%PDF-", "\ufeff%PDF-1.7 x", "\ufeff \t%PDF"])
def test_a_text_never_begins_like_a_pdf(text: str) -> None:
    assert guard(text) == f"{ESCAPE}.{text}"


@pytest.mark.parametrize("text", ["", "plain", "a %PDF- within", "tëxt 😀"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert guard(make_safe(text)) == text


@given(any_text, st.integers(0, 25))
def test_a_cut_never_leaves_half_an_escape(text: str, limit: int) -> None:
    safe = make_safe(text)
    short = cut(safe, limit)
    assert safe.startswith(short)
    assert limit - 6 < len(short) <= limit or short == safe
    assert text.startswith(restore(short))
