"""The run of a notebook cell as an object: what its calls gave, in order, and retrying those that failed. Runs in: kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.core.control.calls import Call, Settled
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import retry
from flyte_nb.core.runs.engine import Engine
from flyte_nb.core.runs.outputs import ActionOutputs
from flyte_nb.core.runs.run import Run
from flyte_nb.core.tasks.context import current


class CellRun(Run):
    """The run of a cell that awaited tasks: `flyte_nb.last_run()`. ``await run`` gives the results of its calls, in order."""

    def __init__(self, engine: Engine, info: RunInfo) -> None:
        super().__init__(engine, info, None, ((), {}))
        self._owing = 0
        #: Whether actions of it were retried: then what became of them says how it ended, and not the cell's error.
        self.retried = False

    def finished(self) -> None:
        """The run has closed."""
        self._finished.set()

    def _wait(self, quiet: bool = False, wait_for: str = "terminal", **ignored: Any) -> None:
        here = current()
        if here is not None and not here.in_task and here.run.name == self.name and not self.done():
            raise RuntimeError(
                f"{self.name} is the run of this very cell, which cannot wait for itself. Await its calls, or look at it from "
                "the next cell."
            )
        super()._wait(quiet, wait_for, **ignored)

    def _value(self) -> Any:
        return self._results()

    def _outputs(self) -> ActionOutputs:
        return ActionOutputs((self._results(),))

    def _inputs(self) -> dict[str, Any]:
        return {}

    def _abort(self, reason: str = "aborted") -> None:
        gateway = self._engine.gateway
        gateway.cancel_run(self.name, reason)

    def _begin_again(self) -> None:
        self.retried = True
        self._finished.clear()

    def _settle_again(self, call: Call) -> Callable[[Settled], None]:
        self._owing += 1

        def settled(_settled: Settled) -> None:
            self._owing -= 1
            # Its own end is folded by now; the cell's first end, if that is still to come, closes the run.
            if not self._owing:
                self._close_when_quiet()

        return settled

    def _close_when_quiet(self, tries: int = 0) -> None:
        gateway = self._engine.gateway
        record = self._record
        if record is None or record.state.ended_at is not None or self._owing:
            return
        if self._engine.controller.unfinished(self.name) or self._engine.is_open(self.name):
            gateway.loop.call_later(0.02, self._close_when_quiet, tries + 1)
            return
        retry.close_cell(self._engine, record)
        self._finished.set()


__all__ = ["CellRun"]
