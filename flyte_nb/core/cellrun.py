"""The run of a notebook cell as an object: what its calls gave, in order, and retrying those that failed. Runs in: kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flyte_nb.core import rerun
from flyte_nb.core.call import Call, Settled
from flyte_nb.core.context import RunInfo, current
from flyte_nb.core.runs import ActionOutputs, Engine, Run


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
        port = self._engine.port
        port.run_soon(port.controller.cancel_run, self.name, reason)

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
        port = self._engine.port
        record = self._record
        if record is None or record.state.ended_at is not None or self._owing:
            return
        if port.controller.unfinished(self.name) or self._engine.is_open(self.name):
            port.loop.call_later(0.02, self._close_when_quiet, tries + 1)
            return
        rerun.close_cell(self._engine, record)
        self._finished.set()


__all__ = ["CellRun"]
