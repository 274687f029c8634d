"""Runs: what run and with_runcontext take and give, in both forms; runs inside tasks; context, groups, environment, attempts."""

# Programs as users write them.
# mypy: disable-error-code="union-attr,unused-ignore"

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os

import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("runs", env_vars={"ENV_VAR": "environment"})


@env.task
async def one(x: int = 1) -> int:
    return x


@env.task
def sync_one(x: int = 1) -> int:
    return x


@env.task
async def fails(x: int) -> int:
    raise ValueError(f"no {x}")


@env.task
async def parent_of_fails() -> int:
    return await fails(3)


@env.task
async def slow() -> int:
    await asyncio.sleep(60)
    return 1


def test_everything_about_a_run(mode):
    """Waiting in any spelling, outputs, inputs, phase; what is shown never fails."""
    run = flyte.with_runcontext(mode=mode).run(one, 5)
    run.wait()
    run.wait(run)  # a first positional is taken as "quiet", as real programs do
    run.wait(quiet=True, wait_for="terminal")

    assert (run.done(), run.phase, run.outputs()[0], dict(run.inputs())) == (True, "succeeded", 5, {"x": 5})
    assert (run.action.done(), run.action.phase, run.first_failure()) == (True, "succeeded", None)
    assert isinstance(run.url, str)
    with pytest.raises(AttributeError, match=r"`outputs.named_outputs` has them by name"):
        _ = run.outputs().pb2  # type: ignore[attr-defined]
    assert [each.phase for each in run.watch()] == ["succeeded"]
    assert run.name in repr(run)
    assert run.raise_for_status() is None
    assert run.show_logs() is None
    assert run.get_report() == ""
    assert run.details() is not None


def test_everything_about_a_run_awaited(mode):
    """Each has its .aio form."""

    async def program() -> list:
        run = await flyte.with_runcontext(mode=mode).run.aio(one, 6)
        await run.wait.aio()
        await run.raise_for_status.aio()
        await run.show_logs.aio()
        await run.details.aio()
        phases = [each.phase async for each in run.watch.aio()]
        blocking = flyte.with_runcontext(mode=mode).run(one, 7).outputs()[0]
        return [(await run.outputs.aio())[0], dict(await run.inputs.aio()), phases, blocking, await run]

    assert asyncio.run(program()) == [6, {"x": 6}, ["succeeded"], 7, 6]


@pytest.mark.cluster
def test_a_failed_run(cluster):
    """wait does not raise; outputs and raise_for_status raise the task's own error; the first failure is named."""
    run = flyte.run(parent_of_fails)
    run.wait()

    assert (run.phase, run.done()) == ("failed", True)
    for ask in (run.outputs, run.raise_for_status):
        with pytest.raises(ValueError, match="no 3") as caught:
            ask()
        assert caught.value.code == "ValueError"  # type: ignore[attr-defined]
    assert (run.first_failure().task_name, run.first_failure().error_message) == ("runs.fails", "no 3")


def test_in_local_mode_run_raises(request):
    """It blocks until all is done."""
    with pytest.raises(ValueError, match="no 3"):
        flyte.with_runcontext(mode="local").run(parent_of_fails)


@pytest.mark.cluster
def test_a_run_under_way(cluster):
    """raise_for_status refuses; wait_for="running" comes back early."""
    run = flyte.run(slow)
    with pytest.raises(flyte.errors.RunNotDoneError):
        run.raise_for_status()
    run.wait(wait_for="running")

    assert (run.done(), run.phase) == (False, "running")
    run.abort()
    run.wait()
    assert run.phase == "aborted"


def test_every_option_of_a_run_is_taken(mode):
    """Those that mean nothing here too; an unknown mode is refused."""
    options = {
        "version": "v", "copy_style": "loaded_modules", "dry_run": False, "interactive_mode": False, "queue": "q",
        "raw_data_path": "/tmp/raw", "overwrite_cache": True, "env_vars": {"A": "1"}, "labels": {"a": "b"},
        "annotations": {"c": "d"}, "interruptible": True, "log_level": logging.DEBUG, "log_format": "json",
        "user_log_level": 10, "disable_run_cache": True, "max_action_concurrency": 1, "notifications": None,
        "custom_context": {"k": "v"}, "cache_lookup_scope": "global", "preserve_original_types": True, "debug": False,
        "run_start_time": dt.datetime.now(dt.UTC),
    }  # fmt: skip

    assert flyte.with_runcontext(mode, **options).run(five_ones).outputs()[0] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="mode"):
        flyte.with_runcontext(mode="nowhere")


@env.task
async def five_ones() -> list[int]:
    return await asyncio.gather(*(one(i) for i in range(5)))


def test_a_name_is_given_once(mode):
    """A second run of that name is refused, as by Flyte's server."""
    first = flyte.with_runcontext(mode=mode, name=f"named-{mode}").run(one)

    assert first.name == f"named-{mode}"
    with pytest.raises(flyte.errors.RuntimeUserError) as caught:
        flyte.with_runcontext(mode=mode, name=f"named-{mode}").run(one)
    assert caught.value.code == "RunAlreadyExistsError"


@env.task
async def runs_inside(how: str) -> list:
    runner = flyte.with_runcontext(mode="local") if how == "local" else flyte
    run = await runner.run.aio(one, 4) if how == "aio" else runner.run(one, 4)
    await run.wait.aio()
    found = await flyte.remote.Run.get.aio(run.name)
    value = (await run.outputs.aio())[0]
    return [run.name != flyte.ctx().action.run_name, value, found.outputs()[0], dict(run.inputs()), run.phase.value]


@pytest.mark.parametrize("how", ["plain", "aio", "local"])
def test_a_run_inside_a_task_is_independent(mode, how):
    """It is no child; it can be found by name."""
    run = flyte.with_runcontext(mode=mode).run(runs_inside, how)

    assert run.outputs()[0] == [True, 4, 4, {"x": 4}, "succeeded"]
    assert len(run.actions) == 1


@env.task
async def run_of_runs() -> list:
    seen: list = []
    try:
        run = flyte.run(parent_of_fails)
        await run.wait.aio()
        await run.raise_for_status.aio()
    except ValueError as exc:
        seen.append(exc.code)  # type: ignore[attr-defined]
    long = await flyte.with_runcontext(mode=None).run.aio(sync_one, x=8)
    return [*seen, (await long.outputs.aio()).o0]


def test_errors_of_a_run_inside_come_only_when_asked_for(run):
    """As the error that an action would raise."""
    assert run(run_of_runs) == ["ValueError", 8]


@env.task
async def tells_names() -> str:
    return flyte.ctx().action.name


@env.task
async def tells_context() -> dict:
    context = flyte.ctx()
    own = context.action.name
    assert context
    with pytest.raises(AttributeError):
        context.mode = "x"
    return {
        "names": {own, context.task_action.name, await asyncio.create_task(helper()), await asyncio.to_thread(own_name)} == {own},
        "run": context.action.run_name,
        "place": (context.mode, context.is_in_cluster(), context.action.project, context.action.domain),
        "group": context.group_data.name,
        "custom": context.custom_context,
        "attempt": context.attempt_number,
        "aware": context.run_start_time.tzinfo is not None,
        "paths": bool(context.raw_data_path.path) and bool(context.run_base_dir),
    }  # fmt: skip


async def helper() -> str:
    return own_name()


def own_name() -> str:
    return flyte.ctx().action.name


@env.task
async def sets_the_scene() -> dict:
    with flyte.group("scene"), flyte.custom_context(more="m"):
        return await tells_context()


def test_the_context_of_a_task(mode):
    """Seen in helpers, tasks and threads of the body; what the run and the parent gave is there."""
    run = flyte.with_runcontext(mode=mode, custom_context={"base": "b"}, project="p", domain="d").run(sets_the_scene)

    assert run.outputs()[0] == {
        "names": True, "run": run.name, "place": (mode, mode == "remote", "p", "d"), "group": "scene",
        "custom": {"base": "b", "more": "m"}, "attempt": 0, "aware": True, "paths": True,
    }  # fmt: skip


def test_there_is_no_context_outside():
    """A falsy one whose fields are None."""
    assert not flyte.ctx()
    assert flyte.ctx().action is None
    assert flyte.ctx().mode is None
    assert flyte.get_custom_context() == {}


@env.task
async def groups() -> None:
    with flyte.group("g1"):
        await one(1)
        with flyte.group("g2"):
            await one(2)
        await one(3)
        inside = one(4)
    await inside
    before = one(5)
    with flyte.group("g3"):
        await before
    with flyte.group("g4"):
        task = asyncio.create_task(one(6))
    await task
    with flyte.group("g5"):
        await asyncio.gather(one(7), sync_one.aio(8))
    try:
        with flyte.group("g6"):
            raise KeyError
    except KeyError:
        await one(9)
    await asyncio.to_thread(in_a_thread)


def in_a_thread() -> None:
    with flyte.group("g7"):
        sync_one(10)


def test_groups_bind_when_a_coroutine_first_runs(mode):
    """Inner names win and end with their block; creating a task counts as running."""
    run = flyte.with_runcontext(mode=mode).run(groups)
    run.wait()

    found = {a.label[-3:].strip("(e)"): a.group for a in run.actions[1:]}
    assert found == {
        "1": "g1", "2": "g2", "3": "g1", "4": "", "5": "g3", "6": "g4", "7": "g5", "8": "g5", "9": "", "10": "g7",
    }  # fmt: skip


@env.task
async def overlays() -> list[dict]:
    seen = [flyte.get_custom_context()]
    with flyte.custom_context(a="1"):
        seen += [flyte.get_custom_context(), await custom()]
        with flyte.custom_context(a="2"):
            seen.append(await custom())
        late = custom()
    return [*seen, await late]


@env.task
async def custom() -> dict:
    return flyte.get_custom_context()


def test_custom_context_overlays(mode):
    """For the code of the block, and for what first runs in it."""
    run = flyte.with_runcontext(mode=mode, custom_context={"z": "0"}).run(overlays)

    assert run.outputs()[0] == [{"z": "0"}, *2 * [{"z": "0", "a": "1"}], {"z": "0", "a": "2"}, {"z": "0"}]


@env.task
async def variables(names: list[str]) -> list:
    return [os.environ.get(name) for name in names]


@env.task
def sync_variables(names: list[str]) -> list:
    return [os.environ.get(name) for name in names]


other = env.clone_with("runs-other", env_vars={"ENV_VAR": "other"})


@other.task
async def other_variables(names: list[str]) -> list:
    return [os.environ.get(name) for name in names]


@env.task
async def asks_for_variables() -> list:
    names = ["ENV_VAR", "RUN_VAR"]
    return [
        await variables(names),
        await sync_variables.aio(names),
        await other_variables(names),
        await variables.override(env_vars={"ENV_VAR": "override"})(names),
    ]


def test_env_vars_reach_the_task_and_no_other(mode):
    """Those of the run, of the environment, of an override; none is left behind."""
    run = flyte.with_runcontext(mode=mode, env_vars={"RUN_VAR": "run"}).run(asks_for_variables)

    assert run.outputs()[0] == [[v, "run"] for v in ("environment", "environment", "other", "override")]
    assert "RUN_VAR" not in os.environ


@env.task(retries=2)
async def flaky() -> str:
    attempt = flyte.ctx().attempt_number or 0
    if attempt < 2:
        raise ConnectionError(f"attempt {attempt}")
    return f"{attempt} {os.environ['FLYTE_ATTEMPT_NUMBER']}"


@env.task(retries=flyte.RetryStrategy(2, backoff=flyte.Backoff(base=dt.timedelta(milliseconds=1))))
async def hopeless() -> int:
    raise ValueError("always")


@env.task(retries=5)
async def refuses() -> int:
    raise flyte.errors.NonRecoverableError("never")


@env.task
async def retries() -> list:
    seen: list = [await flaky()]
    for task in (hopeless, refuses):
        try:
            await task()
        except flyte.errors.RuntimeUserError as exc:
            seen.append((exc.code, str(exc), isinstance(exc, flyte.errors.RetriesExhaustedError)))
    return seen


def test_retries_are_attempts_of_one_action(mode):
    """They know their number; exhausted ones raise RetriesExhaustedError; NonRecoverableError ends at once."""
    run = flyte.with_runcontext(mode=mode).run(retries)

    assert run.outputs()[0] == [
        "2 2", ("ValueError", "always", True), ("NonRecoverableError", "never", False),
    ]  # fmt: skip
    assert [len(a.earlier) + 1 for a in run.actions[1:]] == [3, 3, 1]


@env.task
async def handles_a_run() -> list:
    run = await flyte.run.aio(slow)
    await run.wait.aio(wait_for="running")
    seen: list = [run.done(), run.phase.value]
    for refused in (run.raise_for_status.aio(), flyte.remote.Run.get.aio("nobody")):
        try:
            await refused
        except (flyte.errors.RunNotDoneError, flyte.errors.ActionNotFoundError) as exc:
            seen.append(type(exc).__name__)
    await run.abort.aio(reason="enough")
    await run.wait.aio()
    try:
        await run.outputs.aio()
    except flyte.errors.ActionAbortedError as exc:
        seen.append(str(exc))
    return seen


@env.task
async def gives_a_run() -> flyte.Run:
    return await flyte.with_runcontext(custom_context={"k": "v"}).run.aio(custom)


@pytest.mark.cluster
def test_a_task_handles_runs_as_a_script_does(cluster):
    """Phases, refusals and aborts are the same; a handle travels."""
    assert flyte.run(handles_a_run).outputs()[0] == [
        False,
        "running",
        "RunNotDoneError",
        "ActionNotFoundError",
        "enough",
    ]
    assert flyte.run(gives_a_run).outputs()[0].outputs()[0] == {"k": "v"}
