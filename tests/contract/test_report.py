"""Reports: what an action shows beside itself."""

from __future__ import annotations

import asyncio

import pytest

import flyte_nb as flyte
from flyte_nb import remote, report

env = flyte.TaskEnvironment("report")


@env.task(report=True)
async def tells() -> None:
    report.log("<p>one</p>")
    await report.log.aio("<p>two</p>")
    report.get_tab("figures").log("<svg></svg>")


@env.task(report=True)
def tells_sync() -> None:
    report.log("gone")
    report.replace("<b>only this</b>", do_flush=True)
    report.current_report().get_tab("more").replace("<i>more</i>")
    report.flush()


@env.task(report=True)
async def both() -> None:
    await asyncio.gather(tells(), tells_sync.aio())
    report.log("<h1>root</h1>")


def finished(mode, task, *args):
    run = flyte.with_runcontext(mode=mode).run(task, *args)
    run.wait()
    return run


def test_what_is_logged_is_kept_at_the_end_of_the_task(mode):
    """No flush is needed: main tab and named tabs are there after the run, on the run and on each action."""
    run = finished(mode, both)
    by_task = {action.task_name: action for action in remote.Action.listall(for_run_name=run.name)}

    assert "<h1>root</h1>" in run.get_report()
    assert "<p>one</p>\n<p>two</p>" in by_task["report.tells"].get_report()
    assert "<h2>figures</h2>" in by_task["report.tells"].get_report()
    assert "<b>only this</b>" in by_task["report.tells_sync"].get_report()
    assert "gone" not in by_task["report.tells_sync"].get_report()


@env.task(report=True)
async def waits_for(name: str) -> str:
    await report.replace.aio("<p>half way</p>", do_flush=True)
    go_on = await flyte.new_condition.aio(name, data_type=str)
    return await go_on.wait.aio()


def test_a_flush_is_seen_before_the_action_ends(mode):
    """The report is there while the task still waits for its condition."""
    import threading

    seen = []

    def watch():
        while True:
            name = next(reversed(flyte.runs()), "")
            condition = remote.Condition.get("seen", run_name=name) if name else None
            if condition is not None and condition.phase == "PAUSED":
                break
        seen.append(flyte.runs()[name].get_report())
        condition.signal("yes")

    before = set(flyte.runs())
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run = flyte.with_runcontext(mode=mode).run(waits_for, "seen")
        assert "yes" == run.outputs()[0]
    finally:
        watcher.join(30)

    assert run.name not in before
    assert "<p>half way</p>" in seen[0]


def test_outside_a_task_reports_go_nowhere():
    """Every function works on a report that nobody sees."""
    report.log("x", do_flush=True)
    report.replace("y")
    report.flush()
    asyncio.run(report.flush.aio())
    assert not report.current_report().has_content()
    with pytest.raises(ValueError, match="does not exist"):
        report.get_tab("nothing", create_if_missing=False)


@env.task(retries=1, report=True)
async def second_try() -> None:
    report.log(f"<p>attempt {flyte.ctx().attempt_number}</p>")
    if flyte.ctx().attempt_number == 0:
        raise ValueError("again")


def test_each_attempt_starts_its_report_anew(mode):
    """What the failed attempt wrote is replaced by what the next one writes."""
    text = finished(mode, second_try).get_report()

    assert "attempt 1" in text
    assert "attempt 0" not in text


@env.task(report=True)
async def by_context() -> bool:
    report.log("x")
    return flyte.ctx().report is report.current_report()


def test_the_context_has_the_report(run):
    """ctx().report is the running action's report."""
    assert run(by_context)
