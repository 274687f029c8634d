"""What surrounds a task: its context, loggers, environment variables, and notices about what has no effect."""

from __future__ import annotations

import datetime as dt
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.core.settings import notices

env = flyte.TaskEnvironment("surroundings", env_vars={"FROM_ENV": "env", "BOTH": "env"})


@env.task
async def base_dir_of_child() -> str:
    return flyte.ctx().run_base_dir


@env.task
async def sees_context() -> dict[str, object]:
    ctx = flyte.ctx()
    with flyte.group("inner"):
        inner = flyte.ctx().group_data
        assert inner is not None
        group = inner.name
    return {
        "truthy": bool(ctx),
        "attempt": ctx.attempt_number,
        "action": ctx.action.name,
        "cluster": ctx.is_in_cluster(),
        "mode": ctx.mode,
        "group": group,
        "no group": ctx.group_data,
        "custom": dict(ctx.custom_context),
        "start": ctx.run_start_time.tzinfo is not None and ctx.run_start_time <= dt.datetime.now(dt.UTC),
        "raw": Path(ctx.raw_data_path.path).is_absolute(),
        "random": Path(ctx.raw_data_path.get_random_remote_path("x.txt")).parent.is_dir(),
        "base": Path(ctx.run_base_dir).is_dir() and await base_dir_of_child() == ctx.run_base_dir,
        "paths": [ctx.checkpoint_paths.prev_checkpoint_path, isinstance(ctx.output_path, str), ctx.rank],
        "data": (isinstance(ctx.data, dict), ctx["nothing"]),
        "frozen": not hasattr(ctx, "nothing"),
    }


def test_the_context_has_flytes_fields(mode):
    """Inside a task, with the values of its run."""
    runner = flyte.with_runcontext(mode=mode, custom_context={"who": "me"})

    assert runner.run(sees_context).outputs()[0] == {
        "truthy": True,
        "attempt": 0,
        "action": "a0",
        "cluster": mode == "remote",
        "mode": mode,
        "group": "inner",
        "no group": None,
        "custom": {"who": "me"},
        "start": True,
        "raw": True,
        "random": True,
        "base": True,
        "paths": [None, True, None],
        "data": (True, None),
        "frozen": True,
    }


def test_the_context_is_empty_outside():
    """A falsy one whose fields are None."""
    ctx = flyte.ctx()

    assert not ctx
    for field in (
        "action",
        "version",
        "raw_data_path",
        "group_data",
        "custom_context",
        "mode",
        "data",
        "report",
        "checkpoint",
    ):
        assert getattr(ctx, field) is None
    assert {} == flyte.get_custom_context()


@env.task
async def reads(name: str) -> str | None:
    return os.environ.get(name)


@env.task
async def reads_all() -> list[str | None]:
    return [
        await reads("FROM_ENV"),
        await reads("FROM_RUN"),
        await reads("BOTH"),
        await reads.override(env_vars={"BOTH": "override"})("BOTH"),
    ]


def test_environment_variables_reach_the_task(mode):
    """Of the environment, the run and an override; they are gone afterwards."""
    runner = flyte.with_runcontext(mode=mode, env_vars={"FROM_RUN": "run", "BOTH": "run"})

    assert ["env", "run", "env", "override"] == runner.run(reads_all).outputs()[0]
    assert not {"FROM_ENV", "FROM_RUN", "BOTH"} & set(os.environ)


@env.task
async def inherits() -> dict[str, str]:
    with flyte.custom_context(level="inner", extra="1"):
        here = flyte.get_custom_context()
        child = await reports_custom()
    assert here == child
    return child


@env.task
async def reports_custom() -> dict[str, str]:
    return flyte.get_custom_context()


def test_custom_context_is_inherited_and_overlaid(mode):
    """The run's base, what the block adds, in the current code and in the children."""
    runner = flyte.with_runcontext(mode=mode, custom_context={"level": "outer", "base": "0"})

    assert {"level": "inner", "base": "0", "extra": "1"} == runner.run(inherits).outputs()[0]


@env.task
async def logs() -> list[object]:
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append((record.run_name, record.action_name, record.is_flyte_internal))

    other = logging.getLogger("of.somebody.else")
    other.addHandler(Keep())
    other.error("from elsewhere")
    flyte.logger.info("from the task")
    flyte.logger.debug("too quiet")
    action = flyte.ctx().action
    return [(action.run_name, action.name, False) == records[0], flyte.logger.name, flyte.system_logger.name]


def test_log_records_carry_run_and_action(mode):
    """All loggers' records are stamped; flyte.logger's INFO is captured with the action's output."""
    run = flyte.with_runcontext(mode=mode).run(logs)

    assert [True, "flyte.user", "flyte"] == run.outputs()[0]
    lines = "\n".join(run.get_logs())
    assert "from the task" in lines
    assert "from elsewhere" in lines
    assert "too quiet" not in lines


def test_levels_come_from_the_environment():
    """LOG_LEVEL and USER_LOG_LEVEL, names or numbers; outside tasks flyte.logger prints to stderr, stamped with nothing."""
    code = """
    import flyte_nb as flyte, logging
    print(flyte.logger.level, flyte.system_logger.level)
    flyte.logger.info("quiet")
    flyte.logger.error("loud")
    record = logging.getLogger("x").makeRecord("x", 20, "f", 1, "m", (), None)
    print(record.run_name, record.action_name)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "USER_LOG_LEVEL": "error", "LOG_LEVEL": "10"},
    )

    assert ["40 10", "None None"] == done.stdout.splitlines()
    assert "ERROR loud" == done.stderr.strip()


@pytest.fixture
def ignored():
    """A task with settings that have no effect here."""
    notices._logged.clear()
    image = flyte.Image.from_debian_base().with_pip_packages("pandas")
    ignored_env = flyte.TaskEnvironment("ignored", image=image, secrets="TOKEN")

    @ignored_env.task
    async def task() -> int:
        return await other()

    @ignored_env.task(queue="fast")
    async def other() -> int:
        return 1

    return task


def test_each_setting_without_effect_is_announced_once(mode, ignored, caplog):
    """One notice for image, secrets and queue each, however many tasks and runs; the program runs all the same."""
    for _ in range(2):
        assert 1 == flyte.with_runcontext(mode=mode).run(ignored).outputs()[0]
    texts = [r.getMessage() for r in caplog.records if "Accepted without effect" in r.getMessage()]

    assert ["image", "queue", "secrets"] == sorted(text.split(": ")[1] for text in texts)
