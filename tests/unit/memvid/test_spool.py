from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.memvid.makers import frame
from wherry.errors import SpoolFull
from wherry.memvid.frame import Frame
from wherry.memvid.spool import read_last, read_spool, write_spool


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    made = [frame(index, metadata={"deep": [1, None, {"x": "😀"}]}, search_text="s") for index in range(1000)]
    assert write_spool(path, made) == 1000
    assert list(read_spool(path)) == made


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("mine")
    with pytest.raises(FileExistsError):
        write_spool(tmp_path / "spool", [])


def test_such_an_integer_may_be_nested_as_deeply_as_any_other_value(tmp_path: Path) -> None:
    inner: object = 10**30
    for _ in range(900):
        inner = [inner]
    write_spool(tmp_path / "spool", [frame(metadata={"deep": inner, "flag": True})])
    (back,) = read_spool(tmp_path / "spool")
    found = back.metadata["deep"]
    while isinstance(found, list):
        (found,) = found
    assert found == str(10**30)
    assert back.metadata["flag"] is True


def test_the_last_frame_is_found(tmp_path: Path) -> None:
    write_spool(tmp_path / "spool", (frame(index) for index in range(3)))
    assert read_last(tmp_path / "spool") == frame(2)


def test_integers_beyond_64_bits_come_back_as_their_digits(tmp_path: Path) -> None:
    large = 10**30
    metadata = {"line": large, "list": [{"in": -large}, 1], "fits": 2**64 - 1}
    write_spool(tmp_path / "spool", [Frame(uri="u", title="t", text="x", metadata=metadata)])
    (back,) = read_spool(tmp_path / "spool")
    assert back.metadata == {"line": str(large), "list": [{"in": str(-large)}, 1], "fits": 2**64 - 1}


def test_a_spool_takes_no_more_bytes_than_it_may(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull):
        write_spool(
            tmp_path / "spool",
            [Frame(uri=f"mv2://{n}", title="t", text="x" * 100) for n in range(100)],
            max_bytes=1000,
        )
    assert 5 < len(list(read_spool(tmp_path / "spool"))) < 10
    assert (tmp_path / "spool").stat().st_size <= 1000


def test_a_frame_takes_no_more_bytes_than_it_may(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull, match=r"the frame mv2://.* takes more than 1000 bytes"):
        write_spool(tmp_path / "spool", [frame(text="x" * 500), frame(text="x" * 1000)], max_frame_bytes=1000)
    assert [len(kept.text) for kept in read_spool(tmp_path / "spool")] == [500]
