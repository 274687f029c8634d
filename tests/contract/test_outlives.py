"""Random trees cut off at random moments: recovered, they give what they would have given, and execute nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.journal.format import LAYOUT, decoded, encoded
from flyte_nb.core.runs.engine import ROOT
from flyte_nb.kernel.session import Session

#: Trees: more with ``TREES=1000 pytest ...``.
TREES = int(os.environ.get("TREES", "25"))

env = flyte.TaskEnvironment("outlives")
Tree = tuple[int, tuple["Tree", ...], str]


@env.task
async def node(tree: Tree, log: str) -> int:
    """The sum of a tree's numbers; its children are gathered, mapped, or called one after another."""
    number, children, way = tree
    found: list[Any]
    if way == "gather":
        found = await asyncio.gather(*(node(child, log) for child in children))
    elif way == "map":
        found = [x async for x in flyte.map.aio(node, children, [log] * len(children))]
    else:
        found = [await node(child, log) for child in children]
    with Path(log).open("a") as file:  # noqa: ASYNC230 - a line
        file.write(f"{number}\n")
    return number + sum(found)


def a_tree(chosen: random.Random, numbers: Iterator[int], depth: int = 3) -> Tree:
    number = next(numbers)
    count = chosen.randrange(4) if depth else 0
    children = tuple(a_tree(chosen, numbers, depth - 1) for _ in range(count))
    return number, children, chosen.choice(["gather", "map", "one by one"])


def numbers_of(tree: Tree) -> list[int]:
    return [tree[0], *(number for child in tree[1] for number in numbers_of(child))]


@pytest.fixture
def session(cluster: Session, tmp_path: Path) -> Iterator[Session]:
    """The session of these tests, with its runs recorded."""
    flyte.init(history=tmp_path / "history")
    yield cluster
    flyte.init(history=False)


def cut(folder: Path, name: str, chosen: random.Random) -> set[int]:
    """Leave of a recorded run what a kill at a random moment leaves; returns numbers of the nodes that had ended."""
    with sqlite3.connect(folder / LAYOUT.file_name) as db:
        (row,) = db.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        batches = db.execute("SELECT data FROM batches WHERE run = ? ORDER BY id", (row,)).fetchall()
        events = [event for (data,) in batches for event in decoded(data, name)]
        last = next(i for i, e in enumerate(events) if isinstance(e, ev.ActionEnded) and e.action == ROOT)
        kept = events[: chosen.randrange(2, last + 1)]
        db.execute("DELETE FROM batches WHERE run = ?", (row,))
        db.execute("INSERT INTO batches (run, data) VALUES (?, ?)", (row, encoded(kept)))
        db.execute("UPDATE runs SET ended = NULL, phase = 'running' WHERE id = ?", (row,))
    labels = {e.action: e.label for e in kept if isinstance(e, ev.ActionQueued)}
    ended = [e.action for e in kept if isinstance(e, ev.ActionEnded) and e.phase is Phase.SUCCEEDED]
    return {int(labels[action].split("(")[2].split(",")[0]) for action in ended}


@pytest.mark.cluster
def test_nothing_that_had_ended_is_executed_again_and_no_value_is_wrong(session: Session, tmp_path: Path) -> None:
    """Against a model: nodes that had ended, and what is below them, are not executed; all others are."""
    chosen = random.Random(11)
    log = tmp_path / "log"
    assert session.past is not None
    for _ in range(TREES):
        tree = a_tree(chosen, iter(range(1, 1_000)))
        run = flyte.run(node, tree, str(log))
        run.wait()
        session.past.journal.flush()
        done = cut(tmp_path / "history", run.name, chosen)
        log.write_text("")

        again = flyte.rerun(f"k{session.past.journal.kernel}.{run.name}", recover=True)

        assert sum(numbers_of(tree)) == again.outputs()[0]
        executed = sorted(int(line) for line in log.read_text().split())
        assert sorted(due(tree, done)) == executed


def due(tree: Any, done: set[int]) -> list[int]:
    """Numbers of the nodes that are to be executed."""
    number, children, _ = tree
    return [] if number in done else [number, *(below for child in children for below in due(child, done))]
