"""Articles, with their tags as an array on the row."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from wherry.errors import ErrorCode
from wherry.tables.builtin import rules
from wherry.tables.builtin.policy import Contradiction, make_policy
from wherry.tables.shape import Row
from wherry.tables.values import Fault

DESCRIPTION_CHARACTERS = 160


def is_dated_draft(record: Any) -> bool:
    """Whether a record is a draft with a date."""
    return record.published_at is not None and record.status == "draft"


def new(record: Any) -> Row:
    """The row of a new article: a draft, unless its record says otherwise."""
    title, published_at = record.title, record.published_at
    return (
        UNSET if record.id is None else record.id,
        record.slug,
        title,
        record.body,
        record.author_id,
        record.tags or [],
        published_at,
        record.status or ("draft" if published_at is None else "published"),
        title[:DESCRIPTION_CHARACTERS],
    )


def changes(record: Any) -> Row:
    """What a record changes. A date publishes; a draft loses its date."""
    title, published_at = record.title, record.published_at
    status = record.status if published_at is None else "published"
    return (
        UNSET if record.id is None else record.id,
        UNSET if record.slug is None else record.slug,
        title,
        record.body,
        record.author_id,
        UNSET if record.tags is None else record.tags,
        UNSET if published_at is None and status != "draft" else published_at,
        UNSET if status is None else status,
        title[:DESCRIPTION_CHARACTERS],
    )


FIELDS = {
    "id": rules.ID,
    "slug": rules.SLUG,
    "title": rules.PRESENT,
    "body": rules.PRESENT,
    "author_id": rules.ID,
    "tags": rules.WORDS,
    "published_at": rules.INSTANT,
    "status": rules.one_of("draft", "published"),
}

ARTICLES = make_policy(
    "article",
    FIELDS,
    required=("title", "body", "author_id"),
    one_of=("id", "slug"),
    contradiction=Contradiction(
        is_dated_draft, "published_at", Fault(ErrorCode.INVALID_FIELD_FORMAT, "must not be given for a draft")
    ),
    columns=(*FIELDS, "description"),
    new=new,
    changes=changes,
    required_for_new="slug",
    touched="updated_at",
)
