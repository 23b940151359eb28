"""Articles, with their tags as an array on the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from wherry.errors import ErrorCode
from wherry.resources import rules
from wherry.resources.model import Columns, ImportField, ImportShape, Resource

STATUSES = ("draft", "published")
DESCRIPTION_CHARACTERS = 160


class ArticleRecord(msgspec.Struct, frozen=True, gc=False):
    """An article as it is imported."""

    title: rules.Text
    body: rules.Text
    author_id: rules.Id
    id: rules.Id | None = None
    slug: rules.Slug | None = None
    tags: list[str] | None = None
    published_at: datetime | None = None
    status: Literal["draft", "published"] | None = None


_KEBAB_CASE = "in kebab case: a-z, 0-9 and single hyphens"

FIELDS = (
    ImportField("id", rules.identifier),
    ImportField("slug", rules.lower_case(rules.SLUG, _KEBAB_CASE, rules.MAX_SLUG_CHARACTERS)),
    ImportField("title", rules.present, required=True),
    ImportField("body", rules.present, required=True),
    ImportField("author_id", rules.identifier, required=True),
    ImportField("tags", rules.words),
    ImportField("published_at", rules.instant),
    ImportField("status", rules.one_of(STATUSES)),
)


def is_clean(record: ArticleRecord) -> bool:
    """Trimmed, in UTC, without repeated tags, named by an id or a slug, and no draft with a date."""
    tags = record.tags
    return (
        (record.id is not None or record.slug is not None)
        and not (record.status == "draft" and record.published_at is not None)
        and rules.is_trimmed(record.title)
        and rules.is_trimmed(record.body)
        and rules.is_trimmed(record.slug)
        and (not tags or rules.are_words(tags))
        and rules.is_utc(record.published_at)
    )


def check(values: Mapping[str, Any], given: frozenset[str]) -> Iterator[tuple[str, rules.Fault]]:
    """An article is named by its id or its slug; a draft has no date."""
    yield from rules.id_or("slug", given)
    if values.get("status") == "draft" and values.get("published_at") is not None:
        yield "published_at", rules.Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not be given for a draft")


def changes(record: ArticleRecord) -> Columns:
    """The columns that a record sets. A date publishes; a draft loses its date."""
    columns: Columns = {
        "title": record.title,
        "body": record.body,
        "author_id": record.author_id,
        "description": record.title[:DESCRIPTION_CHARACTERS],
    }
    if record.slug is not None:
        columns["slug"] = record.slug
    if record.tags is not None:
        columns["tags"] = record.tags
    if record.published_at is not None:
        columns["published_at"], columns["status"] = record.published_at, "published"
    elif record.status is not None:
        columns["status"] = record.status
        if record.status == "draft":
            columns["published_at"] = None
    return columns


def create(record: ArticleRecord, now: datetime) -> Columns:
    """A new article: a draft, unless its record says otherwise."""
    title, published_at = record.title, record.published_at
    return {
        "slug": record.slug,
        "title": title,
        "body": record.body,
        "description": title[:DESCRIPTION_CHARACTERS],
        "author_id": record.author_id,
        "tags": record.tags or [],
        "status": record.status or ("draft" if published_at is None else "published"),
        "published_at": published_at,
        "created_at": now,
        "updated_at": now,
    }


ARTICLES = Resource(
    name="articles",
    singular="article",
    natural_key="slug",
    shape=ImportShape(
        record=ArticleRecord,
        fields=FIELDS,
        is_clean=is_clean,
        check=check,
        columns={
            "slug": "text",
            "title": "text",
            "body": "text",
            "description": "text",
            "author_id": "integer",
            "tags": "text[]",
            "status": "text",
            "published_at": "timestamptz",
            "created_at": "timestamptz",
            "updated_at": "timestamptz",
        },
        changes=changes,
        clearable=frozenset({"published_at"}),
        create=create,
    ),
    references={"author_id": "users"},
    constraints={
        "articles_slug_key": "slug",
        "articles_pkey": "id",
        "articles_author_id_fkey": "author_id",
        "articles_draft_unpublished": "published_at",
    },
)
