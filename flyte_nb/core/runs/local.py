"""Engine of local mode: controller, store and executor in this process. Runs in: this process."""

from __future__ import annotations

import itertools
from typing import Any

from flyte_nb.core.attempts import output
from flyte_nb.core.attempts.inline import InlineExecutor
from flyte_nb.core.attempts.threads import WAITS, LoopClock, LoopThread, allow_other_loops
from flyte_nb.core.cache.service import CacheClient, CacheService
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.control.questions import Answers
from flyte_nb.core.control.replay import Replay
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.runs import conditions, run_registry
from flyte_nb.core.runs.engine import aborting
from flyte_nb.core.transport.payload import Payload


class LocalEngine:
    """A controller, its thread, and a store, all in this process."""

    home = "local"

    def __init__(self) -> None:
        self.thread: LoopThread = LoopThread("flyte-local")
        self.store: RunStore = RunStore()
        self.executor: InlineExecutor = InlineExecutor(self.thread.loop, self.store.append)
        self.answers: Answers = Answers()
        self.retained: Retained = Retained()
        self.replay: Replay = Replay(self.store, self.retained)
        self.replay.serve(self.answers)
        self.cache: CacheService = CacheService(self.thread.post, self.store)
        self.cache.serve(self.answers)
        self.controller: Controller = Controller(
            self.executor, self.store.append, LoopClock(self.thread.loop), home=self.answers, retained=self.retained,
            cache=CacheClient(self.answers, self.home),
        )  # fmt: skip
        self.gateway: Gateway = Gateway(self.thread.loop, self.controller, blocking=WAITS.waiting)
        self.executor.gateway, self.executor.controller = self.gateway, self.controller
        conditions.serve(self.answers, self)
        self._names = itertools.count(1)
        output.install(tee=True)
        allow_other_loops()

    def new_run_name(self) -> str:
        """The next of local-1, local-2, and so on."""
        return f"local-{next(self._names)}"

    def info_of(self, run: str) -> RunInfo | None:
        """What a run's actions know of it."""
        return run_registry.info_of(run)

    def launched(self, run: Any) -> None:
        """Nothing depends on it."""

    waiting = staticmethod(aborting)

    def is_open(self, run: str) -> bool:
        """Local runs have no cells."""
        return False

    def is_attended(self) -> bool:
        """False: a local run blocks the thread of the person who could decide."""
        return False

    def resolve(self, run: str, action: str, op: str, payload: Payload | None, task: Any, info: RunInfo) -> None:
        """Decide over a parked action. On the controller's thread."""
        self.controller.resolve(run, action, op, payload, task, info)

    def abort_run(self, run: str, reason: str) -> None:
        """Cancel a run from outside. On the controller's thread."""
        for flight in self.controller.unfinished(run):
            self.controller.abort(run, flight.call.name, reason)

    def abort_action(self, run: str, action: str, reason: str) -> None:
        """Cancel one action from outside. On the controller's thread."""
        self.controller.abort(run, action, reason)

    def close(self) -> None:
        """Stop the thread."""
        self.cache.close()
        self.thread.stop()
