"""Which errors still fit into an import's report."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.errors import ErrorCode
from wherry.imports.bookkeeping import ReportState
from wherry.imports.models import RecordError

LONG = "é" * 1000  # 2,000 bytes


def an_error(**texts: Any) -> RecordError:
    return RecordError(**{"index": 0, "record_id": None, "code": ErrorCode.FIELD_TOO_LONG, "message": "m", **texts})


@pytest.mark.parametrize(
    "texts",
    [{"record_id": LONG}, {"message": LONG}, {"field": LONG}, {"value": LONG}, {"details": {"text": LONG}}],
    ids=lambda texts: next(iter(texts)),
)
def test_all_texts_of_an_error_count_towards_the_budget_in_bytes(texts: dict[str, Any]) -> None:
    admitted, state = ReportState().admit([an_error(**texts)] * 3, 5000)

    assert len(admitted) == 2
    assert state.truncated
    assert 4000 < state.size <= 5000


def test_the_first_error_is_kept_whatever_its_size() -> None:
    admitted, state = ReportState().admit([an_error(message=LONG)] * 2, 100)

    assert len(admitted) == 1
    assert state.truncated


def test_no_error_is_kept_after_one_that_was_left_out() -> None:
    errors = [an_error(), an_error(message=LONG), an_error()]
    admitted, state = ReportState().admit(errors, 1000)

    assert admitted == errors[:1]
    assert state.admit([an_error()], 1000) == ((), state)
