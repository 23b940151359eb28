"""What one import does, from its source to its outcome."""

from __future__ import annotations

from tests.integration.imports.harness import Bench, article, comment, user


async def test_valid_records_of_every_resource_become_rows(bench: Bench) -> None:
    users = await bench.run("users", [user(1), user(2, role="ADMIN", active=False)])
    articles = await bench.run("articles", [article(1, id=1, tags=[" a ", "b", "a", ""]), article(2)])
    comments = await bench.run("comments", [comment(1), comment(2, created_at="2024-05-01")])
    assert [job.status for job in (users, articles, comments)] == ["succeeded"] * 3, (users, articles, comments)
    assert [job.success_count for job in (users, articles, comments)] == [2, 2, 2]
    rows = await bench.rows(
        "select id, slug, tags, status, description, import_job_id from wherry.articles order by id"
    )
    assert rows[0] == {
        "id": 1,
        "slug": "article-1",
        "tags": ["a", "b"],
        "status": "draft",
        "description": "Article 1",
        "import_job_id": articles.id,
    }
    assert rows[1]["id"] == 2
    assert await bench.rows("select username, role, active, password_hash from wherry.users where id = 2") == [
        {"username": "user2@example.com", "role": "admin", "active": False, "password_hash": None}
    ]


async def test_every_fault_of_a_record_is_reported(authored: Bench) -> None:
    broken = {"id": "1", "slug": "Not A Slug", "title": " ", "author_id": 1.0, "tags": "x", "status": "gone"}
    job = await authored.run("articles", [article(1), broken])
    assert (job.status, job.success_count, job.error_count, job.processed_records) == ("partial", 1, 1, 2)
    assert await authored.faults(job) == [
        (1, "INVALID_FIELD_TYPE", "id"),
        (1, "INVALID_FIELD_FORMAT", "slug"),
        (1, "FIELD_TOO_SHORT", "title"),
        (1, "MISSING_REQUIRED_FIELD", "body"),
        (1, "INVALID_FIELD_TYPE", "author_id"),
        (1, "INVALID_FIELD_TYPE", "tags"),
        (1, "INVALID_ENUM_VALUE", "status"),
    ]
    assert job.error_summary["MISSING_REQUIRED_FIELD.body"] == 1


async def test_a_duplicate_slug_and_a_missing_author_are_both_reported(authored: Bench) -> None:
    job = await authored.run("articles", [article(1), article(1, author_id=99)])
    assert await authored.faults(job) == [(1, "DUPLICATE_VALUE", "slug"), (1, "INVALID_REFERENCE", "author_id")]
    assert (await authored.errors(job))[0]["message"] == "Slug is duplicated in this import"


async def test_an_array_is_read_like_lines(authored: Bench) -> None:
    nested = b'{"slug":"a","title":"A","body":"B","author_id":1,"x":{"y":[1,{"z":"]}"}]}}'
    data = b" [ " + nested + b'\n, 7 ,"x", null, {"slug":"b"} ] \n'
    job = await authored.run("articles", data, format="json")
    assert job.status == "partial", job
    faults = await authored.faults(job)
    assert [index for index, *_ in faults] == [1, 2, 3, 4, 4, 4]
    assert {name for _, name, _ in faults[:3]} == {"INVALID_RECORD_STRUCTURE"}
