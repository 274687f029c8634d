"""``flyte.rerun``: an earlier run again, and with ``recover=True`` only what it did not complete."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Phase

env = flyte.TaskEnvironment("recovercontract")


def marks(path: str | Path) -> list[str]:
    return Path(path).read_text().split() if Path(path).exists() else []


@pytest.fixture
def path(tmp_path):
    """A file that executions leave their names in."""
    return tmp_path / "executed"


@pytest.fixture
def start(mode):
    """Start a run; one that fails is returned all the same."""

    def start(task, *args, **options):
        runner = flyte.with_runcontext(mode=mode, **options)
        try:
            run = runner.run(task, *args)
            run.wait()
        except Exception:
            run = flyte.last_run()
        return run

    return start


PROGRAM = """
def mark(path, text):
    with Path(path).open("a") as file:
        file.write(text + "\\n")

@env.task
async def step(name: str, path: str) -> str:
    mark(path, name)
    return name.upper()

@env.task
async def leaf(x: int, path: str) -> int:
    mark(path, f"leaf{x}")
    return BODY

@env.task
async def middle(n: int, path: str) -> int:
    mark(path, "middle")
    return SUM(await asyncio.gather(*(leaf(i, path) for i in range(n))))

@env.task
async def main(n: int, path: str) -> list:
    return [await step("a", path), await middle(n, path), await step("b", path)]
"""


#: Raises NameError once the leaves have succeeded.
BROKEN = "(lambda found: sum(found) + 1 + undefined)"


def program(body: str = "x // (x - 2)", total: str = "sum"):
    """The program as a cell would define it; with this ``leaf`` one of three fails."""
    scope = {"flyte": flyte, "env": env, "Path": Path, "asyncio": asyncio, "__name__": "__main__"}
    exec(PROGRAM.replace("BODY", body).replace("SUM", total), scope)
    return scope["main"]


def phases(run):
    return {action.label.partition(",")[0].replace("('", "(").rstrip("'"): action.phase for action in run.actions}


def test_recover_executes_only_what_did_not_succeed(start, path):
    """A mended leaf: what succeeded is reused, its siblings under the re-executed parent too."""
    first = start(program(), 3, str(path))
    assert Phase.FAILED is first.phase
    executed = len(marks(path))
    program(body="x * 10")

    second = flyte.rerun(first.name, recover=True)

    assert ["A", 30, "B"] == second.outputs()[0]
    # The leaves' own code has changed, so all of them are executed; `step` has not.
    assert ["middle", "leaf0", "leaf1", "leaf2", "b"] == sorted(
        marks(path)[executed:], key="middle leaf0 leaf1 leaf2 b".find
    )
    assert Phase.RECOVERED is phases(second)["step(a"]
    assert first.name == second.control.info.recovers


def test_under_a_mended_parent_children_are_found(start, path):
    """The parent's code is no part of its children's names."""
    first = start(program(body="x", total=BROKEN), 3, str(path))
    assert Phase.FAILED is first.phase
    executed = len(marks(path))
    program(body="x")

    second = flyte.rerun(first.name, recover=True)

    assert ["A", 3, "B"] == second.outputs()[0]
    assert ["middle", "b"] == marks(path)[executed:]
    assert 4 == sum(action.phase is Phase.RECOVERED for action in second.actions)


def test_a_recovered_run_can_be_recovered(start, path):
    """What the first run computed is found through the second."""
    first = start(program(body="x", total=BROKEN), 3, str(path))
    program(body="x", total=BROKEN.replace("1", "2"))
    with pytest.raises(NameError):
        flyte.rerun(first.name, recover=True).outputs()
    second = flyte.last_run()
    executed = len(marks(path))
    program(body="x")

    assert ["A", 3, "B"] == flyte.rerun(second.name, recover=True).outputs()[0]
    assert ["middle", "b"] == marks(path)[executed:]


def test_without_recover_everything_is_executed(start, path):
    """With the same inputs, or changed ones."""
    first = start(program(body="x"), 2, str(path))
    executed = len(marks(path))

    assert ["A", 1, "B"] == flyte.rerun(first.name).outputs()[0]
    assert 2 * executed == len(marks(path))
    assert ["A", 6, "B"] == flyte.rerun(first.name, n=4).outputs()[0]


def test_one_action_as_a_run_of_its_own(start, path):
    """Its task, with the inputs it had."""
    first = start(program(body="x"), 3, str(path))
    (middle,) = [action for action in first.actions if action.task.endswith(".middle")]

    assert 3 == flyte.rerun(first.name, action_name=middle.name).outputs()[0]
    assert 3 == flyte.rerun(first.name, middle.id).outputs()[0]


def test_forced_actions_are_executed(start, path):
    """Although they succeeded; unknown names are ignored."""
    first = start(program(body="x", total=BROKEN), 3, str(path))
    (step,) = [action for action in first.actions if action.task.endswith(".step")]
    program(body="x")
    executed = len(marks(path))

    run = flyte.rerun(first.name, recover=True, force_rerun_actions=[step.id, "unknown"])

    assert ["A", 3, "B"] == run.outputs()[0]
    assert ["a", "middle", "b"] == marks(path)[executed:]


def test_contradictions_are_refused(start, path):
    """With a word on what to do."""
    first = start(program(body="x"), 1, str(path))

    with pytest.raises(ValueError, match="requires recover=True"):
        flyte.rerun(first.name, force_rerun_actions=["a1"])
    with pytest.raises(ValueError, match="cannot be combined"):
        flyte.rerun(first.name, "a1", recover=True)
    with pytest.raises(flyte.errors.ActionNotFoundError):
        flyte.rerun("no-such-run")
    with pytest.raises(LookupError, match="no action a99"):
        flyte.rerun(first.name, "a99")


async def test_the_aio_form_and_options(start, path):
    """``with_runcontext(...).rerun`` changes what is given."""
    first = start(program(body="x"), 1, str(path))

    again = await flyte.rerun.aio(first.name)
    named = await flyte.with_runcontext(custom_context={"k": "v"}).rerun.aio(first.name)

    assert ["A", 0, "B"] == (await again.outputs.aio())[0] == (await named.outputs.aio())[0]
