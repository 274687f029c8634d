"""What a worker notes for the case that it is killed, as another process reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_nb.core.history.columns import DIGEST
from flyte_nb.engine.clusters.black_box import ENTRIES, ENTRY, BlackBox


def test_what_computes_is_read_from_outside(tmp_path: Path) -> None:
    """Of each lane the action whose turn it is, until it gives its slot back; and last words."""
    written = BlackBox(tmp_path / "box", make=True)
    read = BlackBox(tmp_path / "box")
    (tmp_path / "box").unlink()  # as Dask does with the folder of a worker that has died
    first, second = written.entry(), written.entry()
    assert first is not None
    assert second is not None
    written.turn(first, "r1", "a-long-name")
    written.turn(second, "r2", "b" * 1_000)
    assert ("r1", "a-long-name") in read.computing()
    assert len(read.computing()) == 2
    written.turn(first, "r1", "short")
    written.give_back(second)
    written.last_words("\N{SNOWMAN} because" + "e" * 5_000)

    assert read.computing() == {("r1", "short")}
    assert read.words().startswith("\N{SNOWMAN} because")
    written.clear(first)
    assert repr(read) == "<BlackBox [0 computing]>"
    read.close()
    written.close()


def test_rows_are_noted_by_their_place(tmp_path: Path) -> None:
    """In the lane's own entry, however long the name of their run is."""
    box = BlackBox(tmp_path / "box", make=True)
    names = bytes(range(3 * DIGEST))
    for run in ("r1", "r" * (ENTRY - 10), "r" * 2 * ENTRY):
        last, before = box.entry(), box.entry()
        assert last is not None
        assert before is not None
        box.turn(last, "r2", "other")
        box.rows(before, run, names, "-v")(2)
        assert ("r2", "other") in box.computing()
        box.rows(last, run, names, "-v")(1)  # there is nothing behind it
        if run == "r1":
            assert box.computing() == {("r1", f"{names[place * DIGEST :][:DIGEST].hex()}-v") for place in (1, 2)}
        box.give_back(before)
        box.give_back(last)
    box.close()


def test_a_box_has_so_many_entries(tmp_path: Path) -> None:
    """Lanes beyond are not noted; what is no box is refused."""
    box = BlackBox(tmp_path / "box", make=True)
    assert None not in [box.entry() for _ in range(ENTRIES)]
    assert box.entry() is None
    (tmp_path / "other").write_text("x")
    with pytest.raises(OSError, match="no such box"):
        BlackBox(tmp_path / "other")
    box.close()
