"""Records that are exported, imported into an empty system and exported again give the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile import HOSTILE_TEXTS
from tests.integration.exports.conftest import Exports
from tests.integration.imports.harness import Bench
from wherry.imports.readers import FORMATS
from wherry.jobs.states import Status
from wherry.tables.builtin import BUILT_IN

# Imports trim, so a text that is to come back begins and ends with something that is not space.
HOSTILE = st.sampled_from([f"<{text}>" for text in HOSTILE_TEXTS if len(text) < 1000])
TEXTS = HOSTILE | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).map(
    lambda text: f"<{text}>"
)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda at: at.replace(tzinfo=UTC).isoformat())

USERS = st.lists(
    st.fixed_dictionaries(
        {"name": TEXTS, "role": st.sampled_from(["user", "admin"]), "active": st.booleans()},
        optional={"created_at": MOMENTS, "updated_at": MOMENTS},
    ),
    min_size=1,
    max_size=5,
)
ARTICLES = st.lists(
    st.fixed_dictionaries(
        {"title": TEXTS, "body": TEXTS}, optional={"tags": st.lists(TEXTS, max_size=3), "published_at": MOMENTS}
    ),
    min_size=1,
    max_size=5,
)
COMMENTS = st.lists(st.fixed_dictionaries({"body": TEXTS}, optional={"created_at": MOMENTS}), max_size=5)


async def import_all(exports: Exports, data: dict[str, Any], format: str = "ndjson") -> None:
    bench = Bench(exports.pool, exports.store, exports.settings)
    await exports.sql("truncate wherry.users, wherry.articles, wherry.comments restart identity cascade")
    for resource in BUILT_IN:
        if data[resource]:
            job = await bench.run(resource, data[resource], format=format)
            is_empty = await bench.faults(job) == [(-1, "EMPTY_FILE", None)]
            assert job.status is Status.SUCCEEDED or is_empty, await bench.errors(job)


async def export_all(exports: Exports, **options: Any) -> dict[str, bytes]:
    return {resource: await exports.exported(resource=resource, **options) for resource in BUILT_IN}


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(users=USERS, articles=ARTICLES, comments=COMMENTS, step=st.integers(1, 3))
async def test_an_export_that_is_imported_and_exported_again_is_the_same_bytes(
    exports: Exports, users: list[Any], articles: list[Any], comments: list[Any], step: int
) -> None:
    await import_all(
        exports,
        {
            "users": [{**user, "id": 1 + place * step, "email": f"{place}@x.org"} for place, user in enumerate(users)],
            "articles": [
                {**article, "id": 5 + place * step, "slug": f"a-{place}", "author_id": 1}
                for place, article in enumerate(articles)
            ],
            "comments": [
                {**comment, "id": 9 + place * step, "article_id": 5, "user_id": 1}
                for place, comment in enumerate(comments)
            ],
        },
    )
    first = await export_all(exports)
    assert first["users"].count(b"\n") == len(users)
    assert first["comments"].count(b"\n") == len(comments)
    for format in FORMATS:
        files = await export_all(exports, format=format)
        await import_all(exports, files, format=format)
        assert await export_all(exports, format=format) == files
    assert await export_all(exports) == first
