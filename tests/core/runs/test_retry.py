"""Retrying by hand, in local mode: new code, recalled children, what is kept, and events in any order."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.control.calls import Call
from flyte_nb.core.control.retained import Retained
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.history.reducer import fold
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.retry import CannotRetryError
from flyte_nb.core.tasks.registry import Registry

computed: list[tuple[str, int]] = []


def define(broken: bool) -> tuple[Any, Any]:
    """Two tasks, a parent and a leaf; the leaf fails for 2 if it is broken."""
    env = flyte.TaskEnvironment("rerun")

    @env.task
    async def leaf(x: int) -> int:
        computed.append(("leaf", x))
        if broken and x == 2:
            raise ValueError("two")
        return x if broken else x + 100

    @env.task
    async def tree(n: int) -> int:
        computed.append(("tree", n))
        found = await asyncio.gather(*(leaf(x) for x in range(n)), return_exceptions=True)
        for value in found:
            if isinstance(value, BaseException):
                raise value
        return sum(found)  # type: ignore[arg-type]

    return leaf, tree


def test_a_run_is_retried_from_its_root_and_recalls_what_succeeded() -> None:
    """The failed leaf and its parent run again, with new code; the others do not."""
    computed.clear()
    _, tree = define(broken=True)
    with pytest.raises(ValueError, match="two"):
        flyte.with_runcontext(mode="local").run(tree, 4)
    run = run_registry.last_run()
    define(broken=False)

    run.retry_failed().wait()

    assert 0 + 1 + 102 + 3 == run.outputs().o0
    assert [0, 1, 102, 3] == run.results()
    assert [("leaf", 2), ("tree", 4)] == sorted(computed[5:])
    leaf2 = next(a for a in run.actions if a.label == "leaf(2)")
    assert (Phase.SUCCEEDED, 2, None) == (leaf2.phase, len(leaf2.earlier) + 1, leaf2.error)
    with pytest.raises(CannotRetryError, match="nothing of"):
        run.retry_failed()


def test_a_retry_may_fail_and_be_retried_again() -> None:
    """As often as it takes; attempts are numbered on."""
    _, tree = define(broken=True)
    with pytest.raises(ValueError, match="two"):
        flyte.with_runcontext(mode="local").run(tree, 3)
    run = run_registry.last_run()
    run.retry_failed().wait()
    assert Phase.FAILED is run.phase
    with pytest.raises(ValueError, match="two"):
        run.outputs()
    define(broken=False)
    run.retry_failed().wait()

    assert Phase.SUCCEEDED.name == run.phase.name
    assert 3 == len(run.action.earlier) + 1  # type: ignore[union-attr]


def test_a_parked_action_is_decided_over_from_another_thread() -> None:
    """Local mode blocks its caller: it parks only when told that somebody is there."""
    _, tree = define(broken=True)
    runner = flyte.with_runcontext(mode="local", on_failure="pause", interactive_mode=True)
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(runner.run(tree, 4).outputs().o0), daemon=True)
    before = set(run_registry.runs())
    thread.start()
    until(
        lambda: (
            set(run_registry.runs()) - before
            and [a for a in run_registry.last_run().actions if a.phase is Phase.PAUSED]
        )
    )
    run = run_registry.last_run()
    leaf2 = next(a for a in run.actions if a.phase is Phase.PAUSED)
    with pytest.raises(RuntimeError, match="waits for no decision"):
        run.resume("a0", 1)
    with pytest.raises(flyte.errors.RuntimeDataValidationError, match="int"):
        run.resume(leaf2, "text")
    run.resume(leaf2, 50)
    thread.join(10)

    assert [0 + 1 + 50 + 3] == values


def test_an_unattended_run_raises_instead_of_parking() -> None:
    """The rule, and words that are no way at all."""
    _, tree = define(broken=True)
    with pytest.raises(ValueError, match="two"):
        flyte.with_runcontext(mode="local", on_failure="pause").run(tree, 3)
    with pytest.raises(ValueError, match="on_failure must be"):
        flyte.with_runcontext(mode="local", on_failure="stop").run(tree, 3)


def until(condition: Any) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(20))
def test_events_of_a_retried_action_fold_to_the_same_in_any_order(seed: int) -> None:
    """Its first end does not shine through its second life."""
    note = ErrorNote("user", "ValueError", "two")
    events: list[ev.Event] = [
        ev.ActionQueued("r", "x", "a0", "t", "t()", "", 1.0),
        ev.AttemptStarted("r", "x", 0, 2.0),
        ev.AttemptEnded("r", "x", 0, 2.0, 3.0, False, error=note),
        ev.ActionEnded("r", "x", 1, Phase.FAILED, 3.0, note),
        ev.ActionNoted("r", "x", 2, Phase.QUEUED, 4.0, "retried by hand", 1),
        ev.AttemptStarted("r", "x", 1, 5.0),
    ]
    tail: list[ev.Event] = [
        ev.AttemptEnded("r", "x", 1, 5.0, 6.0, True),
        ev.ActionEnded("r", "x", 3, Phase.SUCCEEDED, 6.0, None, False, b"1", "1"),
    ]
    for chosen, phase in ((events, Phase.RUNNING), (events + tail, Phase.SUCCEEDED)):
        straight, mixed = None, None
        for event in chosen:
            straight = fold(straight, event)
        for event in random.Random(seed).sample(chosen, len(chosen)):
            mixed = fold(mixed, event)
        assert straight is not None
        assert straight == mixed
        assert (phase, None) == (straight.phase, straight.error)


def call(name: str, payload: bytes) -> Call:
    """A call, as far as `Retained` looks at it."""
    return Call(None, RunInfo(name="r1"), name, "a0", payload, name, "", ())  # type: ignore[arg-type]


def test_what_is_kept_is_bounded_and_results_go_first() -> None:
    """Results can be computed again; arguments of a failed call cannot."""
    kept = Retained(max_bytes=250)
    kept.keep_call(call("a", bytes(100)))
    kept.keep_result("r1", "b", bytes(100))
    kept.keep_call(call("c", bytes(100)))

    assert (True, None, True) == (
        kept.call("r1", "a") is not None,
        kept.result("r1", "b"),
        kept.call("r1", "c") is not None,
    )
    kept.keep_call(call("d", bytes(100)))
    assert kept.call("r1", "a") is None
    assert 200 == kept.nbytes
    kept.drop_call(call("d", b""))
    kept.forget_others(set())
    assert 0 == kept.nbytes


def test_the_registry_knows_which_code_a_name_had_when() -> None:
    """Aliases lead from every later version to the one at the time."""

    class Stub:
        def __init__(self, name: str, identity: str) -> None:
            self.name, self.identity = name, identity

        def became(self, _new: object) -> None: ...

    registry = Registry()
    for identity in ("one", "two"):
        registry.add(Stub("t", identity))  # type: ignore[arg-type]
        time.sleep(0.01)
    since = time.time()
    time.sleep(0.01)
    registry.add(Stub("u", "same"))  # type: ignore[arg-type]
    for identity in ("three", "four"):
        registry.add(Stub("t", identity))  # type: ignore[arg-type]

    assert "four" == registry.latest("t").identity
    assert {"three": "two", "four": "two"} == dict(registry.aliases(since))
    assert registry.latest("nobody") is None
