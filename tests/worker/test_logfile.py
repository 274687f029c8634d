"""Whole logs on a worker's disk, and its shelf of large results: bounded, and read from any place."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.payload import Packed, dumps
from flyte_nb.core.values.tables import MAX_COLUMNS, MAX_ROWS, table_of
from flyte_nb.worker import preview_store
from flyte_nb.worker.preview_store import PreviewStore
from flyte_nb.worker.process import logfile
from flyte_nb.worker.process.logfile import LogFiles

KEY = ("r1", "a", 0)


def whole(files: LogFiles, key: tuple[str, str, int] = KEY) -> str:
    """All of a log, stretch by stretch."""
    out = ""
    at: tuple[int, int] | None = (0, 0)
    while at is not None:
        answer = files.read(*key, at)
        assert answer is not None
        text, at = answer
        out += text
    return out


def test_every_line_is_read_back_while_it_is_written_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in memory counts; stretches end at line ends; colours are gone, other characters stay."""
    monkeypatch.setattr(logfile, "CHUNK", 1_000)
    files = LogFiles(tmp_path / "logs")
    file = files.open(KEY, ["early"])
    lines = [f"line {i} é \x1b[32mgreen\x1b[0m" for i in range(500)]
    for line in lines[:250]:
        file.write(line)
    assert 251 == whole(files).count("\n")
    for line in lines[250:]:
        file.write(line)
    files.ended(KEY)

    assert ["early", *(f"line {i} é green" for i in range(500))] == whole(files).splitlines()


def test_a_long_log_keeps_its_start_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond three segments the middle goes, and the gap is stated."""
    monkeypatch.setattr(logfile, "SEGMENT", 10_000)
    monkeypatch.setattr(logfile, "BUFFER", 1_000)
    files = LogFiles(tmp_path / "logs")
    file = files.open(KEY, [])
    for i in range(10_000):
        file.write(f"line {i}")
    files.ended(KEY)
    text = whole(files)

    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 9999\n")
    assert "bytes not kept ..." in text
    assert 30_200 > len(text) > 15_000
    assert 40_000 > sum(path.stat().st_size for path in (tmp_path / "logs").iterdir())


def test_old_logs_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logs of a worker together stay below their limit."""
    monkeypatch.setattr(logfile, "MAX_LOG_BYTES", 5_000)
    files = LogFiles(tmp_path / "logs")
    for n in range(10):
        files.open(("r1", f"a{n}", 0), ["x" * 100] * 10)
        files.ended(("r1", f"a{n}", 0))

    assert files.read("r1", "a0", 0, (0, 0)) is None
    assert 10 == whole(files, ("r1", "a9", 0)).count("\n")
    assert 6_000 > sum(path.stat().st_size for path in (tmp_path / "logs").iterdir())


def test_the_shelf_keeps_tables_and_short_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame as a table, other results as they are; the oldest go, too large ones never come."""
    monkeypatch.setattr(preview_store, "MAX_PREVIEW_BYTES", 100_000)
    monkeypatch.setattr(preview_store, "MAX_ONE", 50_000)
    kept = PreviewStore()
    kept.put(("r1", "frame"), pd.DataFrame({"a": range(1000)}), b"x" * 200_000)
    kept.put(("r1", "text"), "t", pickle.dumps("t" * 40_000))
    kept.put(("r1", "huge"), "h", b"x" * 60_000)
    assert "1,000 × 1" in (kept.get("r1", "frame") or {})["table"]["said"]
    assert "t" * 40_000 == pickle.loads((kept.get("r1", "text") or {})["output"])
    assert kept.get("r1", "huge") is None
    kept.put(("r1", "more"), "m", b"x" * 45_000)

    assert kept.get("r1", "frame") is None
    assert kept.get("r1", "text") is not None


def test_large_arguments_are_tables_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that serves many calls is looked at once; names and texts stand beside it, secrets do not."""
    made: list[object] = []

    def counted(value: object) -> Any:
        made.append(value)
        return table_of(value)

    monkeypatch.setattr(preview_store, "table_of", counted)
    frame = pd.DataFrame({"a": range(100_000), "b": 0.5})
    kept = PreviewStore()
    for n in range(3):
        named = {"frame": frame, "depth": n, "password": "hunter22"}
        payload = dumps(named, Blobs())
        assert type(payload) is Packed
        kept.put_inputs(("r1", f"a{n}"), named, payload)
    shown = (kept.get("r1", "a2") or {})["arguments"]
    kept.put(("r1", "a2"), "t", b"x" * 70_000)

    assert ["frame", "depth", "password"] == [one["name"] for one in shown]
    assert ["0", "0", "0.5"] == shown[0]["table"]["rows"][0]
    assert "2" == shown[1]["text"]
    assert "hunter22" not in str(shown)
    assert 1 == sum(1 for one in shown if "table" in one)
    assert 2 == len(made)  # One for the frame, one for the result.
    assert {"arguments", "output"} == set(kept.get("r1", "a2") or {})


class Loud:
    """Says when somebody asks for its text."""

    asked = 0

    def __str__(self) -> str:
        Loud.asked += 1
        return "loud"

    __repr__ = __str__


def test_a_table_is_small_and_calls_nothing_of_the_users() -> None:
    """Head and tail, twenty columns, texts cut, secrets masked, foreign objects by their class."""
    frame = pd.DataFrame({f"c{i}": range(100) for i in range(30)})
    frame.insert(0, "who", [Loud()] * 100)
    frame.insert(1, "key", ["postgres://me:hunter22@host/db"] * 100)
    frame.insert(2, "long", ["x" * 1_000] * 100)
    table = table_of(frame)
    assert table is not None

    assert MAX_ROWS + 1 == len(table["rows"])
    assert MAX_COLUMNS + 1 == len(table["head"]) == len(table["rows"][0])
    assert ["0", "<Loud>"] == table["rows"][0][:2]
    assert "hunter22" not in str(table)
    assert 20_000 > len(str(table))
    assert 0 == Loud.asked
    assert table_of(np.ones((3, 2))) == {
        "head": ["0", "1"], "rows": [["1", "1"]] * 3, "said": "3 × 2 of float64",
    }  # fmt: skip
    assert table_of([1, 2]) is None


def test_a_full_disk_fails_nobody(tmp_path: Path) -> None:
    """What cannot be written is counted, and said where the log is read."""
    (tmp_path / "logs").write_text("no folder")
    files = LogFiles(tmp_path / "logs")
    file = files.open(KEY, ["early"])
    for _ in range(3):
        file.write("x" * 100_000)

    assert re.fullmatch(r"\.\.\. 300,00\d bytes are not kept: Not a directory \.\.\.\n", whole(files)), whole(files)
    files.ended(KEY)
