from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.capsules.runner import capsule_name

DAY = date(2026, 2, 3)
END = "-gitnexus-mem_capsule-2026-02-03.mv2"


@pytest.mark.parametrize(
    ("base", "slug"),
    [
        ("procrastinate", "procrastinate"),
        ("My Project", "my-project"),
        ("../../etc/x", "etc-x"),
        ("x" * 300, "x" * 80),
        ("a\"b'c", "a-b-c"),
        ("a\r\nSet-Cookie: b", "a-set-cookie-b"),
        ("\u202egpj.exe\u200f", "gpj-exe"),
        ("Crème Brûlée", "creme-brulee"),
        ("日本語", "project"),
        ("", "project"),
        ("..", "project"),
        ("CON", "con"),
    ],
)
def test_a_base_name_becomes_a_slug(base: str, slug: str) -> None:
    assert capsule_name(base, DAY) == slug + END


@given(st.text(st.characters(exclude_categories=[])))
def test_whatever_the_base_name_the_file_stays_in_its_folder_and_the_header_whole(base: str) -> None:
    name = capsule_name(base, DAY)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,79}" + re.escape(END), name)
