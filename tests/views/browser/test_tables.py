"""What the view's table asks for, and what it gets: pages, columns, text in pieces, numbers."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

import pytest

from bench import synthetic as syn
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.results.sheet import Sheet, cell_row
from flyte_nb.core.results.table import row_of
from flyte_nb.views.browser.patches import PatchStream
from flyte_nb.views.browser.tables import MAX_PAGE, TableReplies
from flyte_nb.views.run_model import RunModel


class Made:
    """Makes a sheet of what the store has."""

    async def sheet(self, record: RunRecord, scope: str, *, fresh: bool = False) -> Sheet:
        names = [n for n in record.numbered if n != "a0" and (not scope or record.actions[n].task == scope[2:])]
        sheet = Sheet(len(names))
        for action in map(record.actions.__getitem__, names):
            row, _ = row_of(action, None, None)
            sheet.extend([cell_row(action.number, {**row, "loss": math.inf, "x": action.number}, ["loss"])])
        return sheet


class Replies:
    """Keeps the answers."""

    def __init__(self, store: RunStore) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self.replies = TableReplies(
            PatchStream(RunModel(store.runs["r1"])), Made(), lambda *sent: self.sent.append(sent[1:])
        )

    async def ask(self, op: str, **args: Any) -> tuple[Any, list[bytes]]:
        await self.replies.ops[op](args, "n1")
        content, *buffers = self.sent[-1]
        return json.loads(json.dumps(content, allow_nan=False)), buffers[0] if buffers else []


@pytest.fixture
def replies(store: RunStore) -> Replies:
    store.extend(syn.mapped(1_000, 3))
    return Replies(store)


async def test_a_page_has_rows_and_its_head_has_columns(replies: Replies) -> None:
    """Of the largest group where nothing is asked for; no more than a page; workers by their numbers."""
    page, _ = await replies.ask("table", start=100, stop=5_000, head=True, sort="x", desc=True)
    assert (page["scope"], page["found"], page["total"], len(page["rows"])) == ("g:a0/g:score", 0, 0, 0)
    page, _ = await replies.ask("table", scope="", start=100, stop=5_000, head=True, sort="x", desc=True)
    assert (page["found"], page["start"], len(page["rows"])) == (1_000, 100, MAX_PAGE)
    assert page["ids"][:2] == [900, 899]
    first = dict(zip(page["names"], page["rows"][0], strict=True))
    assert (first["loss"], first["id"], first["worker"][:1]) == ("inf", "a900", "w")
    assert [column["of"] for column in page["columns"] if column["name"] in {"loss", "x"}] == ["input", "result"]
    assert ["g:a0/g:score", "score", 1_000] in page["scopes"]
    page, _ = await replies.ask("table", scope="", names=["x", "none", 3], text="x<4", stop=9)
    assert (page["names"], page["rows"]) == (["x"], [[1], [2], [3]])


async def test_a_table_comes_as_text_in_pieces_and_as_numbers(replies: Replies) -> None:
    """Whatever nonsense is asked for beside."""
    await replies.ask("table_text", scope="", names=["id", "x"], text="x<3", start="?", tabs=True)
    content, [data] = replies.sent[-1]
    assert (content["file"], content["part"], content["parts"]) == ("r1.tsv", 0, 1)
    assert data.decode() == "id\tx\na1\t1\na2\t2\n"
    plot, buffers = await replies.ask("plot", scope="", names=["x", "phase"], text="x>998")
    assert plot == {
        "axes": [{"name": "x", "texts": []}, {"name": "phase", "texts": ["failed", "succeeded"]}],
        "n": 2,
        "total": 2,
    }
    assert [array("I", buffers[0]).tolist(), array("d", buffers[1]).tolist()] == [[999, 1_000], [999.0, 1_000.0]]
