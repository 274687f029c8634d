"""What the views' tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.views.run_model import RunModel


class Board:
    """A `Display` that remembers."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.changed = asyncio.Event()

    def publish(self, bundle: Any, display_id: str) -> None:
        self.published.append({**bundle, "id": display_id})
        self.changed.set()

    def update(self, bundle: Any, display_id: str) -> None:
        self.updates.append({**bundle, "id": display_id})
        self.changed.set()

    async def next(self) -> None:
        self.changed.clear()
        await asyncio.wait_for(self.changed.wait(), 10)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def store() -> RunStore:
    return RunStore()


@pytest.fixture
def model_of(store: RunStore) -> Callable[[Iterable[ev.Event]], RunModel]:
    """The model of a run that was followed from its start, its events taken in."""

    def make(events: Iterable[ev.Event]) -> RunModel:
        events = list(events)
        store.append(events[0])
        model = RunModel(record(store), lambda: syn.T0 + 3)
        store.extend(events[1:])
        model.take(last=True)
        return model

    return make


def record(store: RunStore) -> RunRecord:
    return next(iter(store.runs.values()))
