"""Texts that have broken exporters, and that PostgreSQL can hold."""

from __future__ import annotations

HOSTILE_TEXTS = (
    "plain",
    " leading and trailing ",
    "back\\slash \\n \\\\ \\t \\. \\N \\x41",
    "\\.",
    "\\N",
    'quote " and "" and \' and ""',
    "comma, semicolon; tab\t pipe|",
    "line\nfeed",
    "carriage\rreturn",
    "both\r\nof them\n\r",
    "".join(map(chr, range(1, 32))),
    "delete \x7f and C1 \x80\x85\x9f",
    "line separator \u2028 paragraph separator \u2029",
    "byte order mark \ufeff inside",
    "\ufeff",
    "no-break \u00a0 zero width \u200b joiner \u200d",
    "umlauts äöüß ÿ",
    "cjk 漢字かな",
    "astral 😀 𝒜 👩‍👩‍👧‍👦 \U0010ffff",
    "combining e\u0301 a\u0308 versus é ä",
    "rtl עברית العربية \u202egnirts desrever\u202c \u200f",
    "noncharacters \ufffe \uffff \ufdd0",
    "replacement \ufffd",
    "</script><script>alert(1)</script>",
    '{"json": [1, 2]}',
    "%s %(name)s {} {0} $1 :name ?",
    "'; drop table users; --",
    "null",
    "NULL",
    "true",
    "-1",
    "=1+1",
    "+1",
    "@sum(a1)",
    "\t=1+1",
    "=cmd|' /C calc'!A0",
    "＝1+1",
    "'=1+1",
    "x" * 1_000_000,
    'ü\\"\n😀' * 200_000,
)

AMBIGUOUS = [
    "\uff41lice@example.com",  # full-width a
    "\ufb01sh@example.com",  # the ligature fi
    "\u017fam@example.com",  # long s
    "stra\u00dfe@example.com",  # folds to ss
    "al\u200bice@example.com",  # zero-width space
    "al\u200dice@example.com",  # zero-width joiner
    "al\u00adice@example.com",  # soft hyphen
    "al\u2060ice@example.com",  # word joiner
    "\u202ealice@example.com",  # right-to-left override
    "alice@ex\ufeffample.com",  # zero-width no-break space
]
"""Addresses that look like others, or that Unicode holds equivalent to others."""
