"""Articles, with their tags as an array on the row."""

from __future__ import annotations

from wherry.resources.model import Filter, FilterType, Resource

STATUSES = ("draft", "published")

ARTICLES = Resource(
    name="articles",
    singular="article",
    fields=("id", "slug", "title", "body", "author_id", "tags", "published_at", "status"),
    natural_key="slug",
    references={"author_id": "users"},
    filters=(
        Filter("id", FilterType.ID),
        Filter("slug", FilterType.TEXT, lower_case=True),
        Filter("status", FilterType.ENUM, choices=STATUSES),
        Filter("author_id", FilterType.ID),
        Filter("published_at", FilterType.PERIOD, nullable=True),
        Filter("created_at", FilterType.PERIOD),
    ),
    constraints={
        "articles_slug_key": "slug",
        "articles_pkey": "id",
        "articles_author_id_fkey": "author_id",
        "articles_draft_unpublished": "published_at",
    },
)
