"""Sheets that a session makes of runs for its views: whose rows, when they are read anew, values that hang."""

from __future__ import annotations

import pickle
import time
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.results.actions import Payloads
from flyte_nb.kernel.shown_values import previews
from flyte_nb.kernel.shown_values.previews import Reader
from flyte_nb.kernel.shown_values.sheets import MAX_SHEETS, Sheets


def kept(_run: str, actions: list[Action]) -> list[Payloads]:
    return [Payloads(action.inputs, action.output) for action in actions]


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture
def record() -> RunRecord:
    """A map of 1,000 rows, three calls beside it, of which one goes on."""
    n, store = 1_000, RunStore()
    store.extend([syn.opened("r1"), syn.root("r1")])
    names = b"".join(i.to_bytes(8, "big") for i in range(n))
    inputs = [pickle.dumps(((i,), {})) for i in range(n)]
    store.append(ev.CallsQueued("r1", 1, "a0", "m.fit", "fit", syn.T0, 1, names, "aa", inputs, ("fit", ("x",), 1)))
    began, ended = (array("d", [syn.T0 + at] * n).tobytes() for at in (1, 2))
    outputs: list[bytes | None] = [pickle.dumps({"loss": 1 / (i + 1)}) for i in range(n)]
    busy, rows = array("f", [0.5] * n).tobytes(), array("I", range(n)).tobytes()
    place = ("tcp://w", 1, "0")
    store.append(ev.CallsEnded("r1", 1, Phase.SUCCEEDED, syn.T0 + 2, rows, began, ended, busy, outputs, {}, place))
    for i in range(3):
        actor = syn.Actor("r1", f"s{i}", "a0", f"score({i})", inputs=pickle.dumps(((i,), {})))
        store.extend([actor.queued(syn.T0), actor.start(syn.T0)])
        if i < 2:
            store.append(actor.ended(syn.T0 + 1, output=pickle.dumps(i)))
    return store.runs["r1"]


async def test_a_sheet_has_the_rows_of_its_scope(reader: Reader, record: RunRecord) -> None:
    """A group's, a task's, or all; what has not ended is counted; it is read anew if anything changed."""
    sheets = Sheets(reader, kept)
    whole = await sheets.sheet(record, "")
    assert (len(whole), whole.total, whole.going) == (1_003, 1_003, 1)
    assert (len(await sheets.sheet(record, "t:m.fit")), len(await sheets.sheet(record, "t:demo.score"))) == (1_000, 3)
    mapped = await sheets.sheet(record, "g:a0/g:fit")
    assert mapped.rows([1, 999], ["arg0", "loss", "running"]) == [[1, 0.5, 0.5], [999, 0.001, 0.5]]
    assert len(await sheets.sheet(record, "g:none")) == 0
    assert await sheets.sheet(record, "", fresh=True) is not whole  # forgotten, for those that came since
    again = await sheets.sheet(record, "")
    assert MAX_SHEETS == 3
    assert await sheets.sheet(record, "", fresh=True) is again
    actor = syn.Actor("r1", "s3", "a0", "score(3)")
    record.apply(actor.queued(syn.T0))
    assert await sheets.sheet(record, "") is again
    assert len(await sheets.sheet(record, "", fresh=True)) == 1_004


class Slow:
    """Takes for ever to be made."""

    def __reduce__(self) -> Any:
        return time.sleep, (3,)


async def test_a_value_that_hangs_costs_its_slice_alone(
    reader: Reader, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are there, with their facts, and say that they were not read."""
    monkeypatch.setattr(previews, "WITHIN", 0.3)
    actor = syn.Actor("r1", "h", "a0", "score(9)")
    for event in (actor.queued(syn.T0), actor.start(syn.T0), actor.ended(syn.T0 + 1, output=pickle.dumps(Slow()))):
        record.apply(event)
    sheet = await Sheets(reader, kept).sheet(record, "")
    last = len(sheet) - 1
    assert sheet.total == len(sheet) == 1_004
    [[name, said, phase]] = sheet.rows([last], ["id", "result", "phase"])
    assert (name, phase) == ("a1004", "succeeded")
    assert "not read: it took longer" in str(said)
