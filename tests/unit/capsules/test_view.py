from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from wherry.capsules import view
from wherry.jobs.events import Event
from wherry.jobs.models import Job, new_job_id
from wherry.jobs.states import Kind, Status
from wherry.times import now

MADE: dict[str, Any] = {"key": "k", "fileName": "f.mv2", "size": 1, "sha256": "0" * 64, "search": "lean"}


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        **dict.fromkeys(Job.__annotations__),
        **{"id": new_job_id(), "kind": Kind.CAPSULE, "status": Status.SUCCEEDED, "artifact": MADE},
        **{"created_at": now(), "updated_at": now(), "expires_at": now() + timedelta(hours=1)},
        **{"progress": 100.0, "stage": "succeeded", "stage_progress": 100.0, "last_event_seq": 3},
        "message": "Capsule ready to download",
    }
    return Job(**{**values, **changes})


def entry(**changes: Any) -> Event:
    values: dict[str, Any] = {
        **{"job_id": new_job_id(), "seq": 1, "ts": now(), "type": "stage_progress", "stage": "running"},
        **{"progress": 0.0, "stage_progress": 0.0, "message": "Capsule ready to download", "meta": None},
    }
    return Event(**{**values, **changes})


def test_a_capsule_says_how_much_of_it_can_be_searched() -> None:
    artifact = view.capsule_job(job()).artifact
    assert artifact is not None
    assert artifact.search == "lean"


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("queued", "queued"),
        ("running", "transform"),
        ("write_capsule", "write_capsule"),
        ("succeeded", "download_ready"),
        ("failed", "failed"),
        ("cancelled", "canceled"),
        ("download_ready", "download_ready"),
        ("canceled", "canceled"),
    ],
)
def test_stages_have_this_apis_names_also_those_that_older_versions_stored(stage: str, shown: str) -> None:
    assert view.capsule_job(job(stage=stage)).current_stage == shown
    assert view.event(entry(stage=stage)).stage == shown


def test_the_event_of_an_expired_capsule_says_so() -> None:
    shown = view.event(entry(type="job_expired", stage="expired"))
    assert (shown.stage, shown.emoji, shown.message) == ("expired", "⌛", "Capsule expired")


@pytest.mark.parametrize("removed", [{}, {"removedAt": "…"}], ids=["before retention", "after it"])
def test_an_expired_capsule_says_so(removed: dict[str, str]) -> None:
    shown = view.capsule_job(job(artifact=MADE | removed, expires_at=now()))
    assert (shown.status, shown.current_stage, shown.message, shown.artifact) == (
        "expired",
        "expired",
        "Capsule expired",
        None,
    )
