"""Queues that no worker takes anything of: who is told why, and which attempts fail when. No cluster."""

from __future__ import annotations

from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.engine.dispatch.lanes import LaneGroup, QueuedAttempt
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.placement import PLACEMENT_TIMEOUT_S, Placement
from flyte_nb.engine.dispatch.settling import Unsettled
from flyte_nb.engine.dispatch.shipments import Shipments
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.engine.links.wire import WorkerInfo


class Waits(Network):
    """Keeps what is said at runs."""

    said: dict[str, str] | None = None

    def say_waiting(self, run: RunInfo, why: str) -> None:
        """Keep it."""
        self.said = {**(self.said or {}), run.name: why}


class Queue:
    """One queue of an owner, and how what was in it has ended."""

    def __init__(self) -> None:
        self.network = Waits("me", "kernel", "")
        self.network.roster = {"tcp://a": WorkerInfo("tcp://a", 2)}
        shipments = Shipments(self.network.send)
        self.unsettled = Unsettled(Fetcher(self.network.questions, Blobs("me")), shipments)
        self.shipment = shipments.of("e.t", CodeVersion("v", b""))
        self.placement = Placement(self.network, self.unsettled, lambda _group: None)
        self.group = LaneGroup("g", "e.t", True, {"GPU": 1.0})
        self.ended: list[Outcome] = []

    def add(self, run: str, action: str = "x") -> None:
        """Queue an attempt."""
        work = Work(run, action, 0, b"")
        attempt = QueuedAttempt(RunInfo(name=run), work, self.ended.append, self.group, self.shipment)
        self.unsettled.add(attempt)
        self.group.queue.append(attempt)

    def look(self, at: float) -> list[str]:
        """The runs of which attempts have failed by then."""
        self.placement.look([self.group], at)
        return [outcome.run for outcome in self.ended]


def test_every_run_is_told_and_each_attempt_has_its_own_time() -> None:
    """Not only the first in the queue; what came a second before the first one's time is over goes on waiting."""
    queue = Queue()
    why = "no worker offers GPU=1 (the most is 0: workers offer them by --resources GPU=1)"
    queue.add("r1")
    queue.add("r2")
    assert [] == queue.look(1.0)
    assert {"r1": why, "r2": why} == queue.network.said
    queue.add("r3")
    assert [] == queue.look(PLACEMENT_TIMEOUT_S)
    assert ["r1", "r2"] == queue.look(1.0 + PLACEMENT_TIMEOUT_S)
    error = queue.ended[0].error
    assert error is not None
    assert error.message == (
        f"e.t was not started within 600 s: {why}. init(placement_timeout=...) says how long it may wait."
    )
    queue.look(2.0 + PLACEMENT_TIMEOUT_S)
    assert {"r1": "", "r2": "", "r3": why} == queue.network.said
    assert ["r1", "r2", "r3"] == queue.look(2 * PLACEMENT_TIMEOUT_S)

    queue.add("r4")
    queue.look(2_000.0)
    queue.network.roster["tcp://b"] = WorkerInfo("tcp://b", 1, offers=(("GPU", 1.0),))
    queue.look(2_001.0)
    assert queue.network.said is not None
    assert queue.network.said["r4"] == ""
    del queue.network.roster["tcp://b"]
    queue.look(2_002.0)  # from here on it counts anew
    assert len(queue.look(2_001.0 + PLACEMENT_TIMEOUT_S)) == 3
    assert len(queue.look(2_002.0 + PLACEMENT_TIMEOUT_S)) == 4


def test_a_pause_is_waited_for() -> None:
    """Whoever offers a GPU is paused, which passes; one that is paused and offers too little changes nothing."""
    queue = Queue()
    queue.network.paused = {"tcp://b": WorkerInfo("tcp://b", 1, offers=(("GPU", 1.0),), name="w7")}
    queue.add("r1")
    queue.look(1.0)
    assert queue.network.said is not None
    assert queue.network.said["r1"].startswith("the workers that offer GPU=1 are paused, as Dask does for memory: ")
    assert [] == queue.look(10 * PLACEMENT_TIMEOUT_S)
    queue.group.resources["GPU"] = 2.0
    assert ["r1"] == queue.look(10 * PLACEMENT_TIMEOUT_S)
