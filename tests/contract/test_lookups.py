"""``flyte.remote``: runs and actions found again."""

from __future__ import annotations

import asyncio

import pytest

import flyte_nb as flyte
from flyte_nb import remote
from flyte_nb.models import ActionPhase

env = flyte.TaskEnvironment("lookups")


@env.task
async def square(x: int) -> int:
    print(f"squaring {x}")
    if x == 3:
        raise ValueError("three")
    return x * x


@env.task(retries=1)
async def second_time() -> int:
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")
    return 2


@env.task
async def top(n: int) -> int:
    with flyte.group("squares"):
        found = await asyncio.gather(*(square(i) for i in range(n)), return_exceptions=True)
    return sum(f for f in found if isinstance(f, int)) + await second_time()


@pytest.fixture
def done(mode):
    run = flyte.with_runcontext(mode=mode).run(top, 4)
    run.wait()
    return run


def test_actions_of_a_run_are_listed_root_first(done):
    """listall and get give name, task, phase, group, attempts and error of each."""
    actions = list(remote.Action.listall(for_run_name=done.name))
    squares = [a for a in actions if a.task_name == "lookups.square"]
    failed = list(remote.Action.listall(for_run_name=done.name, in_phase=(ActionPhase.FAILED,)))
    retried = next(a for a in actions if a.task_name == "lookups.second_time")

    assert ("a0", "lookups.top", None, None) == (
        actions[0].name,
        actions[0].task_name,
        actions[0].parent_name,
        actions[0].group,
    )
    assert ["squares"] * 4 == [a.group for a in squares]
    assert [("ValueError", "three", True, False)] == [
        (a.error.code, a.error.message, a.done(), a.cache_hit) for a in failed
    ]
    assert (2, ActionPhase.SUCCEEDED, "a0") == (retried.attempts, retried.phase, retried.parent_name)
    assert (
        retried
        == remote.Action.get(run_name=done.name, name=retried.name)
        == remote.Action.get(f"{done.name}/{retried.id}")
    )
    assert "squaring 3" in list(failed[0].get_logs())
    assert 7 == remote.Action.get(run_name=done.name, name="a0").outputs()[0] == done.outputs()[0]
    assert {"x": 3} == failed[0].inputs()


def test_asynchronous_forms_give_the_same(done):
    """listall.aio is iterated, get.aio awaited, details awaited."""

    async def look() -> tuple[list[str], str, str]:
        names = [a.name async for a in remote.Action.listall.aio(for_run_name=done.name)]
        action = await remote.Action.get.aio(run_name=done.name, name="a0")
        run = await remote.Run.get.aio(done.name)
        return names, (await action.details()).task_name, run.name

    assert ([a.name for a in remote.Action.listall(for_run_name=done.name)], "lookups.top", done.name) == asyncio.run(
        look()
    )


def test_runs_are_found_by_name(done):
    """Run.get gives the very run, Run.listall all of this process; the latest is last."""
    assert remote.Run.get(done.name) is done
    assert isinstance(done, remote.Run)
    assert done is list(remote.Run.listall(in_phase="succeeded"))[-1]
    assert done is flyte.runs()[done.name] is flyte.last_run()


def test_what_is_not_there_says_so(done):
    """Unknown runs and actions raise ActionNotFoundError with their names."""
    with pytest.raises(flyte.errors.ActionNotFoundError, match="nothing"):
        remote.Run.get("nothing")
    with pytest.raises(flyte.errors.ActionNotFoundError, match="a99"):
        remote.Action.get(run_name=done.name, name="a99")
    with pytest.raises(flyte.errors.ActionNotFoundError, match="nothing"):
        remote.Condition.get("x", run_name="nothing")


@env.task
async def waits_long() -> str:
    try:
        await long_child()
    except flyte.errors.ActionAbortedError as exc:
        return str(exc)
    return "not aborted"


@env.task
async def long_child() -> None:
    await (await flyte.new_condition.aio("never")).wait.aio()


@pytest.mark.cluster
def test_an_action_can_be_aborted(cluster):
    """abort reaches the awaiting parent as ActionAbortedError; wait returns once it has ended."""
    run = flyte.with_runcontext(mode="remote").run(waits_long)
    child = None
    while child is None:
        child = next(
            (a for a in remote.Action.listall(for_run_name=run.name) if a.task_name == "lookups.long_child"), None
        )
    child.wait(wait_for="running")
    child.abort("not needed")
    child.wait()

    assert "not needed" == run.outputs()[0]
    assert ActionPhase.ABORTED is child.phase


class Dashboard:
    name = "dashboard"

    def get_link(self, run_name, project, domain, context, parent_action_name, action_name, pod_name, **kwargs):
        return f"https://example.org/{run_name}/{action_name}"


@env.task(links=(Dashboard(),))
async def linked() -> None:
    pass


def test_links_of_a_task_are_reachable_on_its_actions(mode):
    """get_link is called with run and action."""
    run = flyte.with_runcontext(mode=mode).run(linked)
    run.wait()

    assert [("dashboard", f"https://example.org/{run.name}/a0")] == remote.Action.get(
        run_name=run.name, name="a0"
    ).links


class Ledger(Dashboard):
    name = "ledger"


@env.task
async def calls_with_links() -> None:
    await linked.override(links=(Ledger(),))()
    await linked.override(links=())()
    await linked.override(retries=1)()
    list(await asyncio.gather(*(linked.override(links=Ledger())() for _ in range(300))))


def test_a_call_has_the_links_that_it_was_given(mode):
    """In place of its task's own: of a run, of a nested call, and of many that are alike."""
    root = flyte.with_runcontext(mode=mode).run(linked.override(links=[Ledger(), Dashboard()]))
    nested = flyte.with_runcontext(mode=mode).run(calls_with_links)
    for run in (root, nested):
        run.wait()
    address = f"https://example.org/{root.name}/a0"
    assert remote.Action.get(run_name=root.name, name="a0").links == [("ledger", address), ("dashboard", address)]
    found = [[name for name, _ in action.links] for action in remote.Action.listall(for_run_name=nested.name)]
    assert sorted(found) == [[], [], ["dashboard"], *[["ledger"]] * 301]


@pytest.mark.cluster
def test_the_magic_lists_links(cluster):
    """%flyte links gives name and address."""
    from flyte_nb.kernel import operations

    run = flyte.with_runcontext(mode="remote").run(linked)
    run.wait()

    assert f"dashboard: https://example.org/{run.name}/a0" == operations.subcommands()["links"].reply(
        cluster, f"{run.name}/a0"
    )
    assert "There is no action a99999; `%flyte status` shows the latest run." == operations.subcommands()[
        "links"
    ].reply(cluster, "a99999")
