"""The executor on a fake network: what is queued, sent, settled and lost, without a cluster."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

import flyte_nb as flyte
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.facts import ErrorNote
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.engine.clusters.worker_exits import WorkerExit
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.engine.dispatch.groups import dask_resources
from flyte_nb.engine.dispatch.lanes import QueuedAttempt
from flyte_nb.engine.links.wire import LaneSpec, Message, WorkerInfo

env = flyte.TaskEnvironment("executor")
RUN = RunInfo(name="r1")
PAYLOAD = pickle.dumps(((), {}))


@env.task
def work() -> None:
    """What is executed."""


@env.task
async def overlapping() -> None:
    """One on a loop."""


def worker(address: str) -> WorkerInfo:
    """A worker with one slot."""
    return cast("WorkerInfo", SimpleNamespace(address=address, nthreads=1))


class FakeFuture:
    """Of a lane's Dask task."""

    def add_done_callback(self, function: Any) -> None:
        """Never called."""

    def release(self) -> None:
        """Nothing to release."""


class FakeNetwork:
    """A process with links to two workers; keeps what is sent."""

    def __init__(self, own_address: str = "") -> None:
        self.me = own_address or "kernel"
        self.own_address = own_address
        self.resting: set[str] = set()
        self.grows = False
        self.silent: frozenset[str] = frozenset()
        self.watched = ()
        self.links: dict[str, Any] = {}
        self.ended: list[tuple[str, float]] = []
        self.sent: list[tuple[str, Message]] = []
        self.lanes: list[tuple[LaneSpec, str, bool]] = []
        self.roster = {address: worker(address) for address in ("tcp://a", "tcp://b")}
        self.death = WorkerExit("tcp://a")

    def send(self, address: str, message: Message) -> None:
        self.sent.append((address, message))

    send_now = send

    def round_trip(self, address: str) -> float:
        return 0.0

    async def submit_lane(self, spec: LaneSpec, resources: dict[str, float], prefer: str, only: bool) -> Any:
        self.lanes.append((spec, prefer, only))
        return FakeFuture()

    def cause(self, address: str, run: RunInfo, then: Callable[[WorkerExit], None]) -> None:
        then(self.death)

    def heard_of(self, quiet: dict[str, float]) -> None:
        """Nothing follows."""

    def end_worker(self, address: str, run: RunInfo, silent: float) -> None:
        """Its process is ended."""
        self.ended.append((address, silent))

    def named(self, name: str) -> list[Message]:
        """Messages of one kind."""
        return [message for _, message in self.sent if message[0] == name]


class World:
    """An executor, and what it told the controller."""

    def __init__(self, own_address: str = "") -> None:
        self.network = FakeNetwork(own_address)
        # Nothing large is fetched.
        self.executor = DaskExecutor(cast("Any", self.network), cast("Any", None), CodeVersions(Blobs()))
        self.outcomes: list[Outcome] = []

    def start(self, *actions: str, task: Any = work) -> None:
        for action in actions:
            self.executor.start(task, RUN, Work("r1", action, 0, PAYLOAD), self.outcomes.append)

    def report(self, address: str, name: str, *fields: Any) -> None:
        """A host's message arrives."""
        getattr(self.executor, f"_on_{name}")(address, *fields)

    async def open(self) -> list[str]:
        """Have all lanes open that were asked for; returns their names."""
        await settle()
        for spec, prefer, _only in self.network.lanes:
            self.report(prefer, "lane", spec.lane, "open")
        await settle()
        return [spec.lane for spec, _, _ in self.network.lanes]

    def kinds(self) -> dict[str, str]:
        return {outcome.action: outcome.kind for outcome in self.outcomes}


async def settle() -> None:
    """Let the executor's ticks pass."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_attempts_are_queued_sent_and_settled() -> None:
    """One lane a slot; the first attempts travel alone, each with its run before."""
    world = World()
    world.start("a1", "a2", "a3")
    assert repr(world.executor) == "<DaskExecutor [0 sent, 3 queued] <LanePool [0 open, 0 coming, 1 groups]>>"
    first, second = await world.open()
    assert repr(world.executor) == "<DaskExecutor [2 sent, 1 queued] <LanePool [2 open, 0 coming, 1 groups]>>"
    run_sent, code, bundle = (cast("Any", message) for _, message in world.network.sent[:3])
    assert [("run", RUN), "code", ("bundle", first)] == [run_sent, code[0], bundle[:2]]
    assert (code[1], "executor.work") == (
        bundle[2][0].version,
        getattr(found := pickle.loads(code[2]), "task", found).name,
    )

    world.report("tcp://a", "progress", first, 1, 1, 0.001, False)
    world.report("tcp://a", "ended", first, [Outcome("r1", "a1", 0, "ok")])
    await settle()

    assert world.kinds() == {"a1": "ok"}
    assert repr(world.executor) == "<DaskExecutor [2 sent, 0 queued] <LanePool [2 open, 0 coming, 1 groups]>>"
    assert [3, 2] == [len(world.network.named("bundle")), len(world.network.named("run"))]
    world.report("tcp://b", "closed", second)
    assert world.kinds() == {"a1": "ok", "a2": "lost"}
    await world.executor.close()


async def test_returned_attempts_are_queued_again_first() -> None:
    """In their order, before what was queued behind them."""
    world = World()
    world.network.roster.popitem()
    world.start("a1", task=overlapping)
    (lane,) = await world.open()
    world.report("tcp://a", "progress", lane, 1, 0, 0.001, False)
    world.start("a2", "a3", "a4", task=overlapping)
    await settle()
    world.report("tcp://a", "returned", lane, [("r1", "a3", 0), ("r1", "a4", 0)])
    (group,) = world.executor.groups.values()

    assert repr(group) == "<LaneGroup executor.overlapping [2 queued, 1 lanes]>"
    assert [attempt.work.action for attempt in group.queue if isinstance(attempt, QueuedAttempt)] == ["a3", "a4"]
    world.executor.cancel(Work("r1", "a3", 0, PAYLOAD), "no")
    world.executor.cancel(Work("r1", "a1", 0, PAYLOAD), "no")
    await settle()
    assert world.kinds() == {"a3": "cancelled"}
    assert [("cancel", ("r1", "a1", 0), "cancelled")] == [message[:3] for message in world.network.named("cancel")]
    await world.executor.close()


@pytest.mark.parametrize(("for_memory", "kind"), [(False, "lost"), (True, "oom")])
async def test_a_lost_workers_attempts_end_with_the_cause(for_memory: bool, kind: str) -> None:
    """What had begun there; what had not runs elsewhere and was never lost."""
    world = World()
    world.network.death = WorkerExit("tcp://a", for_memory=for_memory)
    world.start("a1", "a2", task=work)
    await world.open()
    world.network.roster.pop("tcp://a")
    world.executor.pool.worker_lost("tcp://a")

    (outcome,) = world.outcomes
    assert (outcome.action, outcome.kind, outcome.location[0]) == ("a1", kind, "tcp://a")
    assert outcome.error is not None
    assert outcome.error.code == ("OOMError" if for_memory else "WorkerLostError")
    assert repr(world.executor.losses) == "<Losses [1 workers, 1 suspects]>"
    await world.executor.close()


async def test_a_task_is_quarantined_after_a_loss() -> None:
    """An owner that is a worker opens no lane on itself for the task whose attempt was lost: it may be what ended the other."""
    world = World(own_address="tcp://b")
    world.start("a1")
    await world.open()
    (group,) = world.executor.groups.values()
    assert not world.executor.losses.quarantines(group)
    world.executor.pool.worker_lost("tcp://a")
    assert world.executor.losses.quarantines(group)
    world.start("a1")
    await settle()
    assert 1 == len(world.network.lanes)  # none on itself
    world.network.roster["tcp://c"] = worker("tcp://c")
    world.executor.pool.touch_queues()
    await settle()

    assert ("tcp://c", True) == world.network.lanes[-1][1:]
    await world.executor.close()


@pytest.mark.parametrize("answers", ["nothing", "that it goes on", "that it is not there"])
async def test_an_overdue_attempt_costs_its_worker_the_process(answers: str) -> None:
    """If the worker is silent, or says that the attempt goes on; not if it answers that it has none."""
    world = World()
    asked: list[Any] = []
    network = cast("Any", world.network)
    link = SimpleNamespace(received=0)  # of a worker that has said nothing yet
    network.links = {"tcp://a": link}
    network.questions = SimpleNamespace(ask=lambda peer, op, args, then: asked.append((peer, op, args, then)))
    network.dropped = []
    network.drop = network.dropped.append
    world.start("a1")
    await world.open()
    watch = world.executor.watch
    world.executor.cancel(Work("r1", "a1", 0, PAYLOAD), "no")
    (due,) = watch._due.items()
    watch._due[due[0]] = due[1]._replace(at=due[1].at - 60.0)
    for _ in range(12):
        watch._looked_at -= 1.0
        watch.look()
        for peer, op, (keys,), then in asked:
            assert (peer, op, keys) == ("tcp://a", "overdue", [("r1", "a1", 0)])
            if answers != "nothing":
                link.received += 1
                then([60.0 if answers == "that it goes on" else None])
        if answers != "nothing":
            asked.clear()

    ended = [address for address, _ in world.network.ended]
    assert ended == ([] if answers == "that it is not there" else ["tcp://a"])
    if ended:  # nobody could end it: it is given up, and the attempt is what it was to be
        silent = world.network.ended[0][1]
        assert (silent >= 2.0) == (answers == "nothing")
        watch._ending["tcp://a"] -= 60.0
        watch.look()
        assert network.dropped == ["tcp://a"]
        world.executor.pool.worker_lost("tcp://a")
        if answers == "nothing":
            assert world.kinds() == {"a1": "cancelled"}
    await world.executor.close()


async def test_a_silent_worker_is_given_nothing_new() -> None:
    """Also if it is the only one: what it is sent now would wait for as long as it stands still."""
    world = World()
    world.start("a1", "a2")
    lanes = await world.open()
    for lane, action in zip(lanes, ("a1", "a2"), strict=True):
        world.report("", "progress", lane, 1, 1, 0.0, False)
        world.report("", "ended", lane, [Outcome("r1", action, 0, "ok")])
    world.network.silent = frozenset({"tcp://a"})
    world.start("a3", "a4")
    await settle()
    assert {address for address, message in world.network.sent if message[0] == "bundle"} == {"tcp://a", "tcp://b"}
    assert [address for address, message in world.network.sent if message[0] == "bundle"].count("tcp://a") == 1
    world.network.silent = frozenset({"tcp://a", "tcp://b"})
    world.start("a5")
    await settle()
    (group,) = world.executor.groups.values()
    assert [attempt.work.action for attempt in group.queue if isinstance(attempt, QueuedAttempt)][-1] == "a5"
    world.network.silent = frozenset()
    world.executor.pool.touch_queues()
    await settle()
    assert not group.queue
    await world.executor.close()


@pytest.mark.parametrize(
    ("death", "kind"),
    [
        (WorkerExit("tcp://a", boxed=True, culprits=frozenset({("r1", "a1")})), "lost"),
        (WorkerExit("tcp://a", boxed=True, culprits=frozenset({("r1", "other")})), "stranded"),
        (WorkerExit("tcp://a", boxed=True), "unexplained"),
        (WorkerExit("tcp://a", waiting=frozenset({("r1", "a1")})), "stranded"),
    ],
)
async def test_a_loss_counts_by_what_is_known_of_it(death: WorkerExit, kind: str) -> None:
    """Only what computed as the worker died may be to blame, or what nothing is known of."""
    world = World()
    world.network.death = death
    world.start("a1")
    await world.open()
    world.executor.pool.worker_lost("tcp://a")

    assert world.kinds() == {"a1": kind}
    await world.executor.close()


async def test_all_attempts_end_when_the_cluster_is_gone() -> None:
    """Queued or sent; a late report is dropped."""
    world = World()
    world.start("a1", "a2", "a3")
    lane, _ = await world.open()
    world.executor.fail_all(ErrorNote("system", "SchedulerLostError", "gone"))
    world.report("tcp://a", "ended", lane, [Outcome("r1", "a1", 0, "ok")])

    assert world.kinds() == dict.fromkeys(("a1", "a2", "a3"), "error")
    assert 3 == len(world.outcomes)
    assert repr(world.executor) == "<DaskExecutor [0 sent, 0 queued] <LanePool [0 open, 0 coming, 1 groups]>>"
    await world.executor.close()


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [(None, {}), (0, {}), (2, {"GPU": 2.0}), ("T4:1", {"GPU": 1.0}), (flyte.GPU("A100", 4), {"GPU": 4.0})],
)
def test_accelerators_are_dask_resources(gpu: Any, expected: dict[str, float]) -> None:
    """In every form that `Resources` takes."""
    assert expected == dask_resources(work.override(resources=flyte.Resources(gpu=gpu)))
    assert {} == dask_resources(work)
