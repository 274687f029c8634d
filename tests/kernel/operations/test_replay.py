"""``%flyte replay``: one action again, in the kernel, under the debugger; its children on the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.kernelclient import Kernel, run_unattended

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
get_ipython().colors = "nocolor"
import asyncio, os
import flyte_nb as flyte
flyte.init(breakpoint_wait=0)
env = flyte.TaskEnvironment("demo", env_vars={"MODE": "fast"})

@env.task
async def child(x: int) -> tuple[int, int]:
    return x * 2, os.getpid()

@env.task
async def parent(x: int, factor: float) -> float:
    doubled, pid = await child(x)
    here = pid == os.getpid()
    return doubled / factor

@env.task
def plain(x: int) -> int:
    y = x + 1
    breakpoint()
    print("mode", os.environ["MODE"], flyte.ctx().custom_context, flyte.ctx().action.run_name)
    return y
"""


def test_a_failed_action_is_replayed_with_its_inputs_and_its_children_run_on_the_cluster(nb: Kernel) -> None:
    """The debugger opens where it fails again, on local frames; the child was computed by another process."""
    nb.run("await asyncio.gather(*(parent(x, 0.0 if x == 2 else 1.0) for x in range(4)), return_exceptions=True)").ok()
    name = (
        nb.run("print(next(a.id for a in flyte.last_run().actions if a.label.startswith('parent(2')))")
        .ok()
        .stdout.strip()
    )

    cell = nb.run(f"%flyte replay {name}", inputs=["p x, factor, doubled, here", "await child(50)", "q"]).ok()

    assert "ZeroDivisionError" in cell.stdout
    assert "(2, 0.0, 4, False)" in cell.stdout
    assert "(100, " in cell.stdout
    assert "parent(2, 0.0) raised ZeroDivisionError" in cell.stdout
    assert "replay of r1" in nb.run("%flyte runs").ok().stdout
    assert name in nb.run(f"%flyte debug {name}", inputs=["p doubled", "q"]).ok().stdout


def test_breakpoint_stops_in_a_replayed_sync_body_with_its_context(nb: Kernel) -> None:
    """Variables of the environment, and the custom context, are the action's."""
    nb.run("with flyte.custom_context(team='blue'):\n    await plain.aio(4)").ok()
    name = nb.run("print(flyte.last_run().actions[1].id)").ok().stdout.strip()

    cell = nb.run(f"%flyte replay {name}", inputs=["p y", "c"]).ok()

    assert "\n5\n" in cell.stdout
    assert "mode fast {'team': 'blue'}" in cell.stdout
    assert "plain(4) returned 5" in cell.stdout
    assert "'MODE'" not in (nb.run("[key for key in os.environ if key == 'MODE']").ok().result or "")


def test_replay_steps_through_an_async_body(nb: Kernel) -> None:
    """`--step` stops at the first line; `n` goes over an `await` of a child on the cluster."""
    nb.run("await parent(3, 2.0)").ok()
    name = nb.run("print(flyte.last_run().actions[1].id)").ok().stdout.strip()

    cell = nb.run(f"%flyte replay {name} --step", inputs=["n", "p doubled * 111", "c"]).ok()

    assert "\n666\n" in cell.stdout
    assert "returned 3.0" in cell.stdout


def test_the_code_of_now_is_replayed(nb: Kernel) -> None:
    """After the cell was edited."""
    nb.run("run = flyte.run(parent, 3, 0.0); run.wait()").ok()
    nb.run("@env.task\nasync def parent(x: int, factor: float) -> float:\n    return -1.0").ok()

    assert "returned -1.0" in nb.run("%flyte replay a0").ok().stdout
    assert "There is no action a999" in nb.run("%flyte replay a999").ok().stdout


def test_stop_ends_a_replay_and_its_children(nb: Kernel) -> None:
    """Nothing of it goes on, and the next cell works."""
    nb.run(
        "@env.task\nasync def nap(s: float) -> None:\n    await asyncio.sleep(s)\n\n"
        "@env.task\nasync def naps(s: float) -> None:\n    print('naps')\n    await nap(s)"
    ).ok()
    nb.run("await naps(0.0)").ok()
    nb.run("@env.task\nasync def naps(s: float) -> None:\n    print('naps')\n    await nap(600.0)").ok()
    name = nb.run("print(flyte.last_run().actions[1].id)").ok().stdout.strip()
    cell = nb.begin(f"%flyte replay {name}")
    cell.wait_for(lambda: "naps" in cell.stdout)
    nb.interrupt()
    cell.wait(20)

    assert "KeyboardInterrupt" == cell.error.name
    nb.run(
        "from flyte_nb.kernel.session import Session\nimport time\n"
        "while any(r.state.ended_at is None for r in Session.current.store.runs.values()): time.sleep(0.02)",
        timeout=20,
    ).ok()


def test_without_anybody_to_answer_the_error_is_shown(tmp_path: Path) -> None:
    """nbclient: a failing replay raises; `--step` is refused."""
    cells = [
        DEFINE,
        "await asyncio.gather(parent(2, 0.0), return_exceptions=True)",
        "%flyte replay a1",
        "%flyte replay a1 --step",
    ]
    *_, replayed, stepped = run_unattended(cells, tmp_path)

    assert "ZeroDivisionError" == replayed[-1]["ename"]
    assert "PromptRefusedError" == stepped[-1]["ename"]
