"""A selection selects the right records."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.exports.conftest import Exports
from wherry.tables.builtin import BUILT_IN
from wherry.tables.model import Filter, FilterType

BASE = datetime(2024, 1, 1, tzinfo=UTC)


async def ids(exports: Exports, resource: str, filters: dict[str, Any]) -> list[int]:
    content = await exports.exported(resource=resource, fields="id", filters=filters)
    return [json.loads(line)["id"] for line in content.splitlines()]


async def test_each_filter_selects_the_right_records(exports: Exports) -> None:
    await exports.fill(12)
    at = BASE + timedelta(microseconds=123456)
    await exports.sql("update wherry.users set created_at = %s where id = 5", at)
    await exports.sql("update wherry.articles set created_at = %s where id = 6", at + timedelta(days=1))
    await exports.sql("update wherry.comments set article_id = 2, created_at = %s where id = 7", at)
    expected: list[tuple[str, dict[str, Any], list[int]]] = [
        ("users", {"id": "3"}, [3]),
        ("users", {"email": "U4@X.org"}, [4]),
        ("users", {"name": "User 5"}, [5]),
        ("users", {"name": "user 5"}, []),
        ("users", {"role": "Admin"}, [1]),
        ("users", {"active": "false"}, [3, 6, 9, 12]),
        ("users", {"active": False, "id": 6}, [6]),
        ("users", {"createdAt": "2024-01-01T00:00:00.123Z"}, [5]),
        ("users", {"createdAt": "2024-01-01T00:00:00.123456Z"}, [5]),
        ("users", {"createdAt": "2024-01-01T00:00:00.124Z"}, []),
        ("users", {"createdAt": {"gt": "2024-01-01T00:00:00.123456Z"}}, [n for n in range(1, 13) if n != 5]),
        ("users", {"createdAt": {"lte": "2024-01-01T01:00:00.123456+01:00"}}, [5]),
        ("articles", {"slug": "A-7"}, [7]),
        ("articles", {"status": "draft"}, [4, 8, 12]),
        ("articles", {"authorId": 9}, [9]),
        ("articles", {"publishedAt": None}, [4, 8, 12]),
        ("articles", {"publishedAt": {"gte": "2024-01-01T02:00Z", "lt": "2024-01-01T06:00Z"}}, [2, 3, 5]),
        ("articles", {"publishedAt": "2024-01-01T03:00:00Z"}, [3]),
        ("articles", {"created_at": {"lt": "2025-01-01"}}, [6]),
        ("comments", {"article_id": 2}, [2, 7]),
        ("comments", {"articleId": 2, "userId": 7}, [7]),
        ("comments", {"created_at": {"lt": "2024-06-01"}}, [7]),
        ("comments", {"id": 99}, []),
    ]
    for resource, filters, found in expected:
        assert await ids(exports, resource, filters) == found, (resource, filters)


INJECTIONS = ["'; drop table users; --", "%s", "%(after)s", "$1", "\\", "' or '1'='1", "{}", '"', "\u2019"]


@pytest.mark.parametrize("resource", list(BUILT_IN))
async def test_no_text_is_interpreted_as_sql(exports: Exports, resource: str) -> None:
    await exports.fill(3)
    for declared in BUILT_IN[resource].filters:
        if declared.type is FilterType.TEXT:
            for text in INJECTIONS:
                assert await ids(exports, resource, {declared.column: text}) == []
    await exports.sql("update wherry.users set name = %s where id = 2", INJECTIONS[0])
    assert await ids(exports, "users", {"name": INJECTIONS[0]}) == [2]


def drawn(chance: random.Random, declared: Filter, record: dict[str, Any]) -> Any:
    """A filter value close to a record's, so that it sometimes selects something."""
    value = record[declared.column]
    if declared.type is FilterType.PERIOD and value is not None and chance.random() < 0.8:
        low, high = sorted(value + timedelta(seconds=chance.randint(-5000, 5000)) for _ in range(2))
        bounds = {chance.choice(["gt", "gte"]): low.isoformat(), chance.choice(["lt", "lte"]): high.isoformat()}
        return bounds if chance.random() < 0.7 else dict([chance.choice(list(bounds.items()))])
    return value.isoformat() if isinstance(value, datetime) else value


def passes(declared: Filter, wanted: Any, value: Any) -> bool:
    """What the contract says about one filter, in plain Python."""
    if isinstance(wanted, dict):
        tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
        return value is not None and all(
            getattr(value, tests[bound])(datetime.fromisoformat(text)) for bound, text in wanted.items()
        )
    if isinstance(value, datetime) and isinstance(wanted, str):
        return value == datetime.fromisoformat(wanted)
    return bool(value == wanted)


@pytest.mark.parametrize("resource", list(BUILT_IN))
async def test_any_combination_of_filters_selects_what_a_simple_model_selects(exports: Exports, resource: str) -> None:
    chance = random.Random(resource)
    await exports.fill(60)
    for table in BUILT_IN:
        await exports.sql(
            f"update wherry.{table} set created_at = timestamptz '2024-01-01Z' + id %% 7 * interval '1234.567891 s'"
        )
    filters = BUILT_IN[resource].filters
    columns = ", ".join(declared.column for declared in filters)
    rows = await exports.sql(f"select {columns} from wherry.{resource} order by id")
    records = [dict(zip([declared.column for declared in filters], row, strict=True)) for row in rows]
    for _ in range(20):
        chosen = chance.sample(filters, chance.randint(1, min(3, len(filters))))
        record = chance.choice(records)
        wanted = {declared.column: drawn(chance, declared, record) for declared in chosen}
        expected = [
            each["id"]
            for each in records
            if all(passes(declared, wanted[declared.column], each[declared.column]) for declared in chosen)
        ]
        assert await ids(exports, resource, wanted) == expected, wanted
