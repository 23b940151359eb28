"""Comments: a user's words on an article. Their natural key is `id`."""

from __future__ import annotations

from wherry.resources.model import Filter, FilterType, Resource

COMMENTS = Resource(
    name="comments",
    singular="comment",
    fields=("id", "article_id", "user_id", "body", "created_at"),
    natural_key="id",
    references={"article_id": "articles", "user_id": "users"},
    filters=(
        Filter("id", FilterType.ID),
        Filter("article_id", FilterType.ID),
        Filter("user_id", FilterType.ID),
        Filter("created_at", FilterType.PERIOD),
    ),
    constraints={
        "comments_pkey": "id",
        "comments_article_id_fkey": "article_id",
        "comments_user_id_fkey": "user_id",
    },
)
