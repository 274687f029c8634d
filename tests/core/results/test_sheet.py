"""A run's table for the view: cells, order, filters, text to paste, numbers to plot."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.results.sheet import MAX_COLUMNS, MAX_POINTS, Order, Sheet, cell_of, cell_row
from flyte_nb.core.results.table import FACTS, row_of


class Colour(Enum):
    """Of an argument."""

    RED = 1


@dataclass
class Loud:
    """Says so when it is asked for its text."""

    x: int = 1

    def __repr__(self) -> str:
        raise RuntimeError("asked")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (3, 3), (None, None), (True, True), (2**60, str(2**60)), (0.5, 0.5), ("a\tb\x1b[31mc", "a\tbc"), ("x" * 500, "x" * 200),
        (np.float32(0.5), 0.5), (np.int64(7), 7.0), (np.bool_(True), True), (Decimal("1.5"), 1.5), (np.array(2.0), 2.0),
        (Colour.RED, "Colour.RED"), (date(2026, 1, 2), "2026-01-02"), (timedelta(minutes=1), 60.0), ([1, 2], "[1, 2]"),
        (np.zeros((3, 4)), "<ndarray 3x4>"), (pd.DataFrame({"a": [1]}), "<DataFrame 1x1>"), (Loud(), "Loud(x=1)"),
        (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
    ],
)  # fmt: skip
def test_a_cell_is_a_number_or_a_short_text(value: Any, cell: Any) -> None:
    """Nothing of the user's own is called."""
    found = cell_of("x", value)
    assert (found, type(found)) == (cell, type(cell))


def test_a_cell_hides_what_goes_by_a_secrets_name() -> None:
    """Also as a part of an argument."""
    assert "hunter2" not in str(cell_of("config.password", "hunter2"))
    assert "hunter2" not in str(cell_of("config", {"password": "hunter2"}))


def sheet_of(rows: list[dict[str, Any]], results: list[str]) -> Sheet:
    sheet = Sheet(len(rows))
    sheet.extend(
        cell_row(10 + i, {"id": f"a{10 + i}", **row, "phase": "succeeded"}, results) for i, row in enumerate(rows)
    )
    return sheet


@pytest.fixture
def sheet() -> Sheet:
    rows: list[dict[str, Any]] = [
        {"lr": 0.1, "opt": "adam", "loss": 3.0},
        {"lr": 0.2, "opt": "sgd", "loss": math.nan},
        {"lr": 0.05, "opt": "adam", "loss": 1.0, "config.depth": 3},
        {"lr": "auto", "opt": "Adam", "loss": None},
    ]
    return sheet_of(rows, ["loss"])


def found(sheet: Sheet, **order: Any) -> list[int]:
    return [sheet.numbers[row] for row in sheet.ordered(Order(**order))]


def test_rows_are_sorted_with_what_has_no_value_last(sheet: Sheet) -> None:
    """Numbers before texts, both ways round at the end what is missing."""
    assert found(sheet) == [10, 11, 12, 13]
    assert found(sheet, descending=True) == [13, 12, 11, 10]
    assert found(sheet, sort="loss") == [12, 10, 11, 13]
    assert found(sheet, sort="loss", descending=True) == [10, 12, 11, 13]
    assert found(sheet, sort="lr") == [12, 10, 11, 13]
    assert found(sheet, sort="id", descending=True) == [13, 12, 11, 10]
    assert found(sheet, sort="nonsense") == [10, 11, 12, 13]


def test_rows_are_filtered_by_words_and_by_columns(sheet: Sheet) -> None:
    """A column may be named by its end; what names none is a word."""
    assert found(sheet, text="adam") == [10, 12, 13]
    assert found(sheet, text="adam loss<2") == [12]
    assert found(sheet, text="depth>=3") == [12]
    assert found(sheet, text="opt=ADAM") == [10, 12, 13]
    assert found(sheet, text="lr!=0.1") == [11, 12, 13]
    assert found(sheet, text="nothing<2") == []
    assert found(sheet, text="loss<x") == []


def test_columns_are_those_of_the_data_frame_and_tell_what_they_are(sheet: Sheet) -> None:
    """Facts, arguments, results, facts; a row that lacks one has nothing there."""
    columns = {column.name: column for column in sheet.columns()}
    assert list(columns) == ["id", "lr", "opt", "config.depth", "loss", "phase"]
    assert [columns[name].of for name in ("id", "lr", "loss")] == ["fact", "input", "result"]
    assert (columns["loss"].is_numeric, columns["lr"].is_numeric, columns["phase"].varies) == (True, False, 1)
    assert sheet.rows([0, 2], ["config.depth", "lr"]) == [[None, 0.1], [3, 0.05]]
    wide = sheet_of([{f"c{i}": i for i in range(2 * MAX_COLUMNS)}], [])
    assert len(wide.names) == MAX_COLUMNS


def test_a_table_is_pasted_and_read_again() -> None:
    """Whatever the texts hold."""
    nasty = 'a "b"\tc,\nd'
    sheet = sheet_of([{"x": 0.1 + 0.2, "s": nasty}, {"x": 2, "s": None}], [])
    for tabs in (True, False):
        text = sheet.text(Order(), ["x", "s"], tabs=tabs)
        assert list(csv.reader(io.StringIO(text), delimiter="\t" if tabs else ",")) == [
            ["x", "s"], ["0.30000000000000004", nasty], ["2", ""],
        ]  # fmt: skip


def test_numbers_are_plotted_and_texts_are_categories(sheet: Sheet) -> None:
    """Rows without a number there are left out; of many, every so many are drawn."""
    ids, [(losses, none), (opts, texts)], total = sheet.plotted(Order(), ["loss", "opt"])
    assert (list(ids), list(losses), none, list(opts), texts, total) == (
        [10, 12], [3.0, 1.0], [], [1.0, 1.0], ["Adam", "adam", "sgd"], 2,
    )  # fmt: skip
    many = sheet_of([{"x": i, "s": f"t{i}"} for i in range(MAX_POINTS + 1)], [])
    ids, [(values, _)], total = many.plotted(Order(), ["x"])
    assert (total, list(values[:3])) == (MAX_POINTS + 1, [0.0, 2.0, 4.0])
    assert len(many.plotted(Order(), ["s"])[0]) == 0


def test_arguments_that_are_not_kept_are_what_their_label_tells() -> None:
    """Numbers and texts as they are, a dict by its keys, a frame by its size; nothing of a label that its author has made up."""
    label = "fit(<DataFrame 569x30>, {'depth': 2, 'rate': 1e-05}, name='a, b', fold=3)"
    action = Action("r1", "x", 1, "a0", "m.never_defined", label, "", "task", Phase.SUCCEEDED, 0.0)
    row, _ = row_of(action, None, None)
    told = {"arg0": "<DataFrame 569x30>", "arg1.depth": 2, "arg1.rate": 1e-05, "name": "a, b", "fold": 3}
    assert told == {name: value for name, value in row.items() if name not in FACTS and name != "result"}
    action.label = "my own words"
    assert row_of(action, None, None)[0].keys() <= {*FACTS, "result"}
