"""Conditions: a run waits for somebody's answer."""

# Programs as users write them.
# mypy: disable-error-code="union-attr"

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time

import pytest

import flyte_nb as flyte
from flyte_nb import remote
from flyte_nb.core.history.facts import Phase

env = flyte.TaskEnvironment("conditions")


@env.task
async def asks(kind: str) -> str:
    data_type = {"bool": bool, "int": int, "float": float, "str": str}[kind]
    condition = await flyte.new_condition.aio("answer", prompt="Well?", data_type=data_type)
    value = await condition.wait.aio()
    return f"{type(value).__name__} {value!r}"


@env.task
def asks_sync() -> bool:
    return flyte.new_condition("answer", prompt="Go on?").wait()


@env.task
async def parent_of_sync() -> bool:
    return await asks_sync.aio()


def waiting(name: str, known: set[str]):
    """The condition of this name in a run that is not among `known`, once it waits."""
    for _ in range(3_000):
        for run in [r for r in flyte.runs() if r not in known]:
            found = remote.Condition.get(name, run_name=run)
            if found is not None and found.phase == "PAUSED":
                return found
        time.sleep(0.01)
    raise AssertionError(f"{name} never waited")


def answered(mode, task, *args, give, name="answer"):
    """Run a task and call `give(condition)` once its condition waits; returns the run."""
    known = set(flyte.runs())
    faults = []

    def work():
        try:
            give(waiting(name, known))
        except BaseException as exc:
            faults.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    run = flyte.with_runcontext(mode=mode).run(task, *args)
    run.wait()
    thread.join(30)
    assert [] == faults
    return run


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [("bool", True, "bool True"), ("int", 7, "int 7"), ("float", 2, "float 2.0"), ("str", "yes", "str 'yes'")],
)
def test_a_signal_ends_the_wait_with_a_value_of_its_type(mode, kind, value, shown):
    """wait.aio returns what signal was given, as the condition's type."""
    run = answered(mode, asks, kind, give=lambda condition: condition.signal(value))

    assert shown == run.outputs()[0]


def test_sync_tasks_wait_too(mode):
    """.wait() blocks a sync task, also one that an async task awaits."""
    run = answered(mode, parent_of_sync, give=lambda condition: condition.signal(False))

    assert run.outputs()[0] is False


def test_a_waiting_condition_is_an_action_of_the_run(mode):
    """It is listed with its prompt, type and parent, PAUSED while it waits and SUCCEEDED after."""
    seen = []

    def give(condition):
        listed = list(remote.Condition.listall(run_name=condition.run_name))
        action = remote.Action.get(run_name=condition.run_name, name=condition.action_name)
        seen.append(
            (condition.prompt, condition.expected_type, action.phase, action.kind, len(listed), action.parent_name)
        )
        condition.signal(1)

    run = answered(mode, asks, "int", give=give)

    assert [("Well?", int, Phase.PAUSED, "condition", 1, "a0")] == seen
    assert "SUCCEEDED" == remote.Condition.get("answer", run_name=run.name).phase


def test_a_value_of_another_type_is_refused(mode):
    """signal raises TypeError, and the condition goes on waiting."""

    def give(condition):
        for wrong in ("7", True, 7.0):
            with pytest.raises(TypeError, match="type int"):
                condition.signal(wrong)
        with pytest.raises(TypeError, match="must be bool, int, float, or str"):
            condition.signal([7])
        condition.signal(7)
        for _ in range(1_000):
            if remote.Condition.get("answer", run_name=condition.run_name).phase != "PAUSED":
                break
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="does not wait any more"):
            condition.signal(8)

    assert "int 7" == answered(mode, asks, "int", give=give).outputs()[0]


@env.task
async def times_out() -> str:
    condition = await flyte.new_condition.aio("never", timeout=0.1)
    try:
        await condition.wait.aio()
    except flyte.errors.ConditionTimedoutError as exc:
        return exc.code
    return "answered"


def test_a_timeout_raises(run):
    """ConditionTimedoutError reaches the task that waits."""
    assert "ConditionTimedoutError" == run(times_out)


@env.task
async def gives_up() -> str:
    condition = await flyte.new_condition.aio("unanswered")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(condition.wait.aio(), 0.1)
    return "went on"


def test_a_wait_can_be_cancelled(mode):
    """wait_for ends the wait; the condition is ABORTED and the run ends."""
    run = flyte.with_runcontext(mode=mode).run(gives_up)

    assert "went on" == run.outputs()[0]
    assert "ABORTED" == remote.Condition.get("unanswered", run_name=run.name).phase


@env.task
async def leaves_it() -> int:
    await flyte.new_condition.aio("left behind")
    return 1


def test_a_condition_ends_with_its_action(mode):
    """Nobody waits: it is ABORTED when the task that made it ends."""
    run = flyte.with_runcontext(mode=mode).run(leaves_it)
    run.wait()

    assert "ABORTED" == remote.Condition.get("left behind", run_name=run.name).phase


@env.task(retries=1)
async def asks_once() -> str:
    condition = await flyte.new_condition.aio("answer", data_type=str)
    text = await condition.wait.aio()
    if flyte.ctx().attempt_number == 0:
        raise ValueError("after the answer")
    return text


def test_a_retried_task_does_not_ask_again(mode):
    """The answer is recorded and given to the second attempt."""
    assert "once" == answered(mode, asks_once, give=lambda condition: condition.signal("once")).outputs()[0]


@env.task(retries=1)
async def asks_again() -> str:
    condition = await flyte.new_condition.aio("answer", data_type=str)
    if flyte.ctx().attempt_number == 0:
        raise ValueError("before the answer")
    return await condition.wait.aio()


@env.task
async def parent_of_asks_again() -> str:
    return await asks_again()


def test_a_retried_task_whose_question_was_left_open_asks_it_again(mode):
    """The condition that ended with the first attempt waits anew in the second, and can be answered."""
    run = answered(mode, parent_of_asks_again, give=answer_the_second)

    assert "late" == run.outputs()[0]
    assert 1 == len(list(remote.Condition.listall(run_name=run.name)))


def answer_the_second(condition):
    """Answer once it waits in the second attempt."""
    while remote.Action.get(run_name=condition.run_name, name=condition.facts.parent).attempts < 2:
        time.sleep(0.01)
    again = waiting("answer", set(flyte.runs()) - {condition.run_name})
    again.signal("late")


@env.task
async def approver() -> None:
    run = flyte.ctx().action.run_name
    condition = None
    while condition is None:
        condition = await remote.Condition.get.aio("approval", run_name=run)
        await asyncio.sleep(0.01)
    await condition.signal.aio(True)


@env.task
async def approved() -> bool:
    condition = await flyte.new_condition.aio("approval")
    answer, _ = await asyncio.gather(condition.wait.aio(), approver())
    return answer


def test_a_task_can_answer_a_condition_of_its_run(run):
    """remote.Condition works inside tasks, for their own run."""
    assert run(approved)


@env.task
async def dies_asking() -> str:
    if flyte.ctx().attempt_number == 0:
        condition = await flyte.new_condition.aio("lost")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(condition.wait.aio())), 0.3)
        os._exit(1)
    return "without an answer"


@pytest.mark.cluster
def test_a_condition_that_was_lost_with_its_worker_does_not_hold_up_the_run(cluster):
    """The attempt that follows does not ask: the condition is over when the run is."""
    run = flyte.with_runcontext(mode="remote").run(dies_asking)

    assert "without an answer" == run.outputs()[0]
    assert ["ABANDONED"] == [condition.phase for condition in remote.Condition.listall(run_name=run.name)]


def test_outside_a_task_a_condition_is_made_and_cannot_be_waited_for():
    """Making one is harmless, waiting raises RuntimeError; wrong settings are refused at once."""
    with pytest.raises(RuntimeError, match="within a task context"):
        flyte.new_condition("x").wait()
    with pytest.raises(RuntimeError, match="within a task context"):
        asyncio.run(flyte.new_condition("x").wait.aio())
    with pytest.raises(TypeError, match="data_type"):
        flyte.new_condition("x", data_type=list)
    with pytest.raises(ValueError, match="positive"):
        flyte.new_condition("x", timeout=0)


def test_typed_answers_are_read_as_the_conditions_type():
    """What a person types into the view or after %flyte signal."""
    from flyte_nb.core.steps.conditions import answer_from_text

    assert (True, False, 3, 0.5, " as it is ") == (
        answer_from_text("Yes", bool),
        answer_from_text("no", bool),
        answer_from_text(" 3 ", int),
        answer_from_text("0.5", float),
        answer_from_text(" as it is ", str),
    )
    for text, kind in (("maybe", bool), ("3.5", int), ("x", float)):
        with pytest.raises(TypeError, match=text):
            answer_from_text(text, kind)


@pytest.mark.cluster
def test_the_magic_and_the_button_answer(cluster):
    """%flyte signal lists what waits and answers; so does the view's form, which says what is wrong with an answer."""
    from flyte_nb.kernel import operations
    from flyte_nb.kernel.operations.signal import pressed

    def say(*words):
        return operations.subcommands()["signal"].reply(*words) or ""

    def by_magic(condition):
        assert f"%flyte signal {condition.run_name}/answer <int>" in say(cluster)
        assert "takes a whole number" in say(cluster, "answer", "x")
        assert "There is no condition nothing" in say(cluster, "nothing", "1")
        assert "5" in say(cluster, f"{condition.run_name}/answer", "5")

    def by_button(condition):
        press = lambda value: cluster.gateway.ask(  # noqa: E731
            pressed, cluster, condition.run_name, {"action": condition.action_name, "value": value}
        )
        assert "whole number" in press("x")["error"]
        assert {"ok": True} == press("6")

    assert "int 5" == answered("remote", asks, "int", give=by_magic).outputs()[0]
    assert "int 6" == answered("remote", asks, "int", give=by_button).outputs()[0]
