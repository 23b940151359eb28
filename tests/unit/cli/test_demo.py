"""How `wherry demo` shows the results of its jobs."""

from __future__ import annotations

from wherry.cli.demo_jobs import shown
from wherry.cli.demo_report import Moved


def test_a_capsule_is_counted_in_frames_and_an_import_in_rows() -> None:
    capsule, records = Moved("capsule", 9657, 2.0, unit="frames"), Moved("import", 5000, 0.5)
    assert (capsule.amount, capsule.rate) == ("9,657 frames", "4,828 frames/s")
    assert (records.amount, records.rate) == ("5,000 rows", "10,000 rows/s")


def test_an_error_is_shown_on_one_line_without_its_value() -> None:
    error = {
        "recordIndex": 99,
        "errorName": "INVALID_REFERENCE",
        "message": "Author id 7 does not exist in users",
        "value": "x" * 900,
    }
    assert shown(error) == "record 99: Author id 7 does not exist in users (INVALID_REFERENCE)"
