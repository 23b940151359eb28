"""Comments of users on articles. Only their id names them."""

from __future__ import annotations

from wherry.tables.builtin import rules
from wherry.tables.builtin.policy import make_policy

MAX_WORDS = 500

COMMENTS = make_policy(
    "comment",
    {
        "id": rules.ID,
        "body": rules.at_most_words(MAX_WORDS),
        "article_id": rules.ID,
        "user_id": rules.ID,
        "created_at": rules.INSTANT,
    },
    required=("id", "body", "article_id", "user_id"),
)
