"""What onConflict, dryRun and atomic do: examples of what the model-based test covers at random, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.imports.harness import Bench, article, comment, user
from wherry.imports.models import ImportOptions, OnConflict

UPDATE, SKIP = ImportOptions(OnConflict.UPDATE), ImportOptions(OnConflict.SKIP)
ATOMIC, DRY = ImportOptions(atomic=True), ImportOptions(dry_run=True)
COUNT = "select count(*) from wherry.articles"


async def count(bench: Bench) -> int:
    return int((await bench.rows(COUNT))[0]["count"])


async def test_a_second_import_of_the_same_keys_reports_that_they_are_in_use(authored: Bench) -> None:
    await authored.run("articles", [article(1)])
    job = await authored.run("articles", [article(1)])
    assert job.status == "failed"
    (error,) = await authored.errors(job)
    assert error["message"] == "Slug is already in use"
    assert (error["recordId"], error["value"], error["errorCode"]) == ("article-1", "article-1", 1007)
    assert error["details"] is None


async def test_update_writes_the_row_with_the_key_and_keeps_its_id(authored: Bench) -> None:
    first = article(1, id=7, tags=["a"], published_at="2024-01-01", status="published")
    await authored.run("articles", [first])
    job = await authored.run("articles", [article(1, title="New")], options=UPDATE)
    assert job.status == "succeeded"
    rows = await authored.rows("select id, title, tags, status, published_at is null as undated from wherry.articles")
    assert rows == [{"id": 7, "title": "New", "tags": ["a"], "status": "published", "undated": False}]


async def test_tags_are_replaced_not_merged(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=1, tags=["a", "b"]), article(2, id=2, tags=["a"])])
    await authored.run("articles", [article(1, id=1, tags=['c "\\ {,}', "é"]), article(2, id=2, tags=[])])
    rows = await authored.rows("select tags from wherry.articles order by id")
    assert rows == [{"tags": ['c "\\ {,}', "é"]}, {"tags": []}]


@pytest.mark.parametrize(("resource", "make"), [("articles", article), ("users", user)])
async def test_an_update_moves_the_time_of_the_last_change(
    authored: Bench, resource: str, make: Callable[..., dict[str, Any]]
) -> None:
    await authored.run(resource, [{**make(9), "id": 9}])
    await authored.do(f"update wherry.{resource} set created_at = '2020-01-01', updated_at = '2020-01-01'")
    await authored.run(resource, [{**make(9), "id": 9}])
    query = f"select created_at < '2020-01-02' as old, updated_at > '2020-01-02' as new from wherry.{resource}"
    assert await authored.rows(f"{query} where id = 9") == [{"old": True, "new": True}]


async def test_a_new_article_with_a_date_is_published(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=1), article(2, id=2, published_at="2024-01-02")])
    rows = await authored.rows("select status from wherry.articles order by id")
    assert [row["status"] for row in rows] == ["draft", "published"]


async def test_the_description_is_the_beginning_of_the_title(authored: Bench) -> None:
    for letter in "ab":  # a new article, then a change
        job = await authored.run("articles", [article(1, id=1, title=letter * 161)])
        assert job.status == "succeeded"
        assert await authored.rows("select description from wherry.articles") == [{"description": letter * 160}]


async def test_a_draft_loses_its_date_and_an_article_with_a_date_is_published(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=1, published_at="2024-01-01"), article(2, id=2)])
    await authored.run("articles", [article(1, id=1, status="draft"), article(2, id=2, published_at="2024-01-02")])
    rows = await authored.rows("select status, published_at::date::text as day from wherry.articles order by id")
    assert rows == [{"status": "draft", "day": None}, {"status": "published", "day": "2024-01-02"}]


async def test_skip_leaves_existing_rows_unchanged_and_counts_their_records(authored: Bench) -> None:
    await authored.run("articles", [article(1)])
    job = await authored.run("articles", [article(1, title="New"), article(2), article(2)], options=SKIP)
    assert (job.status, job.success_count) == ("succeeded", 3)
    rows = await authored.rows("select title from wherry.articles order by id")
    assert [row["title"] for row in rows] == ["Article 1", "Article 2"]


@pytest.mark.parametrize("options", [ImportOptions(), UPDATE], ids=["error", "update"])
async def test_keys_can_be_swapped_within_one_batch(authored: Bench, options: ImportOptions) -> None:
    await authored.run("articles", [article(1, id=1), article(2, id=2)])
    swap = [
        article(9, id=1),
        article(1, id=2, title="Two"),
        article(2, id=1, title="One"),
        article(9, title="Nine"),
    ]
    job = await authored.run("articles", swap, options=options)
    assert job.status == "succeeded", await authored.errors(job)
    rows = await authored.rows("select slug, title from wherry.articles order by id")
    assert [(row["slug"], row["title"]) for row in rows] == [
        ("article-2", "One"),
        ("article-1", "Two"),
        ("article-9", "Nine"),
    ]


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("atomic", [False, True], ids=["batches", "atomic"])
@pytest.mark.parametrize(("resource", "make", "key"), [("articles", article, "slug"), ("users", user, "email")])
async def test_the_first_of_equal_keys_in_an_import_wins_although_existing_rows_are_updated(
    authored: Bench, resource: str, make: Callable[..., dict[str, Any]], key: str, atomic: bool, batch: int
) -> None:
    text = "title" if resource == "articles" else "name"

    def record(number: int, value: str) -> dict[str, Any]:
        made = {**make(number), text: value}
        return {name: made[name] for name in made if name != "id"}

    async def texts() -> list[str]:
        rows = await authored.rows(f"select {text} from wherry.{resource} where id > 3 order by {key}")
        return [row[text] for row in rows]

    await authored.do(f"select setval('wherry.{resource}_id_seq', 100)")
    await authored.run(resource, [record(1, "Old")])
    options = ImportOptions(OnConflict.UPDATE, atomic=atomic)
    records = [record(1, "First"), record(2, "First"), record(1, "Second"), record(2, "Second")]
    job = await authored.with_settings(import_batch_size=batch).run(resource, records, options=options)
    assert await authored.faults(job) == [(2, "DUPLICATE_VALUE", key), (3, "DUPLICATE_VALUE", key)]
    assert {error["message"] for error in await authored.errors(job)} == {
        f"{key.capitalize()} is duplicated in this import"
    }
    assert await texts() == (["Old"] if atomic else ["First", "First"])


@pytest.mark.parametrize("batch", [7, 100])
async def test_the_last_of_several_changes_of_a_row_remains(authored: Bench, batch: int) -> None:
    await authored.run("articles", [article(number, id=number) for number in range(1, 21)])
    fields: list[dict[str, Any]] = [{"title": "a"}, {"title": "b", "tags": ["b"]}, {"title": "c"}]
    changes = [article(number, id=number, **each) for each in fields for number in range(1, 21)]
    job = await authored.with_settings(import_batch_size=batch).run("articles", changes)
    assert (job.success_count, job.error_count) == (60, 0)
    rows = await authored.rows("select distinct title, tags from wherry.articles")
    assert rows == [{"title": "c", "tags": ["b"]}]


async def test_a_second_record_for_the_same_comment_is_a_duplicate(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=1)])
    await authored.run("comments", [comment(5)])
    job = await authored.run("comments", [comment(5, body="new"), comment(5, body="newer")])
    assert await authored.faults(job) == [(1, "DUPLICATE_VALUE", "id")]
    assert (await authored.errors(job))[0]["message"] == "Id is duplicated in this import"
    assert await authored.rows("select body from wherry.comments") == [{"body": "new"}]


async def test_only_an_admin_imports_admins(bench: Bench) -> None:
    job = await bench.run("users", [user(1, role="Admin"), user(2, role="user"), user(3)], role="user")
    assert (job.status, job.success_count) == ("partial", 2)
    (error,) = await bench.errors(job)
    assert (error["recordIndex"], error["errorCode"], error["errorName"], error["field"]) == (
        0,
        4003,
        "FORBIDDEN",
        "role",
    )


async def test_no_import_changes_who_is_an_operator(bench: Bench) -> None:
    await bench.run("users", [user(1, operator=True, role="admin"), user(2)])
    await bench.do("update wherry.users set operator = true where id = 2")
    job = await bench.run("users", [user(2, operator=False), user(1, operator=True)], options=UPDATE)

    assert job.status == "succeeded"
    assert await bench.rows("select id, operator from wherry.users order by id") == [
        {"id": 1, "operator": False},
        {"id": 2, "operator": True},
    ]


async def test_only_an_admin_may_change_an_admin(bench: Bench) -> None:
    await bench.run("users", [user(1, role="admin"), user(2)])
    changes = [user(1, email="mine@example.com"), user(1, active=False), user(2, name="New")]
    by_key = [{"email": "user1@example.com", "name": "New"}]
    jobs = [
        await bench.run("users", changes, role="user"),
        await bench.run("users", by_key, role="user", options=UPDATE),
        await bench.run("users", by_key, role="user", options=SKIP),
    ]
    assert [(job.success_count, job.error_count) for job in jobs] == [(1, 2), (0, 1), (1, 0)]
    assert await bench.faults(jobs[0]) == [(0, "FORBIDDEN", "id"), (1, "FORBIDDEN", "id")]
    assert await bench.faults(jobs[1]) == [(0, "FORBIDDEN", "email")]
    rows = await bench.rows("select email, name, active from wherry.users order by id")
    assert rows == [
        {"email": "user1@example.com", "name": "User 1", "active": True},
        {"email": "user2@example.com", "name": "New", "active": True},
    ]
    job = await bench.run("users", changes[:1])
    assert job.status == "succeeded"


async def test_the_sequence_moves_past_the_ids_of_records(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=500), article(2)])
    await authored.run("articles", [article(3)])
    rows = await authored.rows("select id from wherry.articles order by id")
    assert [row["id"] for row in rows][1:] == sorted(row["id"] for row in rows)[1:]
    assert await authored.rows("select 1 from wherry.articles where slug = 'article-3' and id > 500") != []


async def test_records_without_an_id_can_be_imported_after_one_with_the_highest_id(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=2_147_483_647)])
    job = await authored.run("articles", [article(2), article(3, id=5)])
    assert (job.status, job.success_count) == ("succeeded", 2)


@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_an_atomic_import_writes_nothing_if_one_record_has_errors(authored: Bench, batch: int) -> None:
    bench = authored.with_settings(import_batch_size=batch)
    job = await bench.run("articles", [article(1), {"id": 77}, article(2), article(2)], options=ATOMIC)
    assert (job.status, job.success_count, job.error_count, job.total_records) == ("failed", 0, 2, 4)
    assert job.error is not None
    assert job.error["code"] == "BATCH_FAILED"
    assert len(await bench.errors(job)) == 5
    assert await count(bench) == 0
    good = await bench.run("articles", [article(1), article(2), article(3, id=9)], options=ATOMIC)
    assert (good.status, good.success_count, good.error_summary) == ("succeeded", 3, {})
    assert await count(bench) == 3
    assert (await bench.rows("select last_value from wherry.articles_id_seq"))[0]["last_value"] >= 9


async def test_a_dry_run_of_an_atomic_import_predicts_its_result(authored: Bench) -> None:
    both = ImportOptions(dry_run=True, atomic=True)
    bad = await authored.run("articles", [article(1), article(1)], options=both)
    good = await authored.run("articles", [article(1), article(2)], options=both)
    assert (bad.status, bad.success_count, bad.error_count) == ("failed", 0, 1)
    assert (good.status, good.success_count) == ("succeeded", 2)
    assert await count(authored) == 0


async def test_a_dry_run_does_not_move_the_sequence_past_the_ids_of_its_records(authored: Bench) -> None:
    await authored.run("articles", [article(1, id=2_000_000_000)], options=DRY)
    assert (await authored.rows("select last_value from wherry.articles_id_seq"))[0]["last_value"] < 1000


async def test_a_dry_run_gives_no_new_row_the_id_of_one_of_its_records(authored: Bench) -> None:
    records: list[Any] = [article(number, id=number) for number in range(1, 6)]
    job = await authored.run("articles", [*records, article(6), article(7)], options=DRY)
    assert (job.status, job.success_count) == ("succeeded", 7)


async def test_a_record_that_only_the_database_refuses_does_not_affect_others(authored: Bench) -> None:
    await authored.do("alter table wherry.articles add constraint articles_slug_short check (length(slug) < 30)")
    long = "a" * 40
    records = [article(n) if n % 40 else article(n, slug=f"{long}{n}") for n in range(1, 201)]
    job = await authored.run("articles", records)
    assert (job.success_count, job.error_count) == (195, 5)
    assert {name for _, name, _ in await authored.faults(job)} == {"INVALID_FIELD_FORMAT"}
    assert [index for index, *_ in await authored.faults(job)] == [39, 79, 119, 159, 199]


async def test_a_key_that_is_too_long_for_an_index_is_an_error_of_its_record(authored: Bench) -> None:
    import random

    letters = random.Random(7)
    slug = "".join(letters.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(9000))
    job = await authored.run("articles", [article(1), article(2, slug=slug), article(3)])
    assert await authored.faults(job) == [(1, "FIELD_TOO_LONG", "slug")]
    assert job.success_count == 2


async def test_duplicates_after_a_batch_of_new_records_are_judged_one_by_one(authored: Bench) -> None:
    """A batch that seems new is not looked up first. Faults that its records hide from the table are still found."""
    bench = authored.with_settings(import_batch_size=2)
    hidden = article(9, id=9, author_id=99)
    records = [article(1), article(2), hidden, article(9, id=9), article(3), article(3, author_id=99)]
    job = await bench.run("articles", records)
    assert await bench.faults(job) == [
        (2, "INVALID_REFERENCE", "author_id"),
        (5, "DUPLICATE_VALUE", "slug"),
        (5, "INVALID_REFERENCE", "author_id"),
    ]
