"""Engine: what a run needs of the process that is its home. Runs in: everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.replay import Replay
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.tasks.context import CallScope, Context

#: Name of the action that a run begins with.
ROOT = "a0"
#: Seconds between two looks of `Run.watch`.
WATCH_EVERY = 0.05


class Engine(Protocol):
    """Where runs run: `flyte_nb.core.runs.local.LocalEngine`, or the kernel's session."""

    gateway: Gateway
    controller: Controller
    store: RunStore
    retained: Retained
    replay: Replay
    #: Name of this process, for actions on workers that ask it something.
    home: str

    def new_run_name(self) -> str:
        """A name that no other run here has."""

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it; None if it is forgotten."""

    def launched(self, run: Any) -> None:
        """A run (`flyte_nb.core.runs.run_control.RunControl`) is about to begin. On the thread that starts it."""

    def waiting(self, run: Any) -> AbstractContextManager[None]:
        """Holds while a thread waits for a run: decides what becomes of it if the wait is broken off."""

    def is_open(self, run: str) -> bool:
        """Whether the cell of a run is still executing and may submit more calls."""

    def is_attended(self) -> bool:
        """Whether a person can decide over parked actions and attach to breakpoints."""

    def resolve(self, run: str, action: str, op: str, payload: Any, task: Any, info: RunInfo) -> None:
        """Decide over a parked action, whichever controller it is at: `Controller.resolve`. On the controller's thread."""

    def abort_run(self, run: str, reason: str) -> None:
        """Cancel a run from outside: what awaits its actions gets `errors.ActionAbortedError`. On the controller's thread."""

    def abort_action(self, run: str, action: str, reason: str) -> None:
        """Cancel one action from outside, whichever controller it is at. On the controller's thread."""


@contextlib.contextmanager
def aborting(run: Any) -> Iterator[None]:
    """A wait that is broken off (Ctrl-C) aborts the run: stop means stop."""
    try:
        yield
    except BaseException:
        run.abort("interrupted")
        raise


def cell_context(engine: Engine, info: RunInfo) -> Context:
    """The context of a notebook cell: its calls are children of an implicit root."""
    return Context(gateway=engine.gateway, run=info, action=ROOT, scope=CallScope(), in_task=False)
