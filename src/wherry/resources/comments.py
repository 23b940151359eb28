"""Comments of users on articles. Their natural key is `id`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from wherry.resources import rules
from wherry.resources.model import Columns, ImportField, ImportShape, Resource

MAX_WORDS = 500


class CommentRecord(msgspec.Struct, frozen=True, gc=False):
    """A comment as it is imported."""

    id: rules.Id
    body: rules.Text
    article_id: rules.Id
    user_id: rules.Id
    created_at: datetime | None = None


FIELDS = (
    ImportField("id", rules.identifier, required=True),
    ImportField("body", rules.at_most_words(MAX_WORDS), required=True),
    ImportField("article_id", rules.identifier, required=True),
    ImportField("user_id", rules.identifier, required=True),
    ImportField("created_at", rules.instant),
)


def is_clean(record: CommentRecord) -> bool:
    """Trimmed, not too many words, and in UTC."""
    body = record.body
    return (
        rules.is_trimmed(body)
        and (len(body) < 2 * MAX_WORDS or len(body.split(None, MAX_WORDS)) <= MAX_WORDS)
        and rules.is_utc(record.created_at)
    )


def check(values: Mapping[str, Any], given: frozenset[str]) -> Iterable[tuple[str, rules.Fault]]:
    """A comment has no rules between its fields."""
    return ()


def changes(record: CommentRecord) -> Columns:
    """The columns that a record sets."""
    columns: Columns = {"body": record.body, "article_id": record.article_id, "user_id": record.user_id}
    if record.created_at is not None:
        columns["created_at"] = record.created_at
    return columns


def create(record: CommentRecord, now: datetime) -> Columns:
    """A new comment."""
    return {
        "body": record.body,
        "article_id": record.article_id,
        "user_id": record.user_id,
        "created_at": record.created_at or now,
    }


COMMENTS = Resource(
    name="comments",
    singular="comment",
    natural_key="id",
    shape=ImportShape(
        record=CommentRecord,
        fields=FIELDS,
        is_clean=is_clean,
        check=check,
        columns={"body": "text", "article_id": "integer", "user_id": "integer", "created_at": "timestamptz"},
        changes=changes,
        create=create,
    ),
    references={"article_id": "articles", "user_id": "users"},
    constraints={
        "comments_pkey": "id",
        "comments_article_id_fkey": "article_id",
        "comments_user_id_fkey": "user_id",
    },
)
