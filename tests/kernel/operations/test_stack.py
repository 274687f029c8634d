"""``%flyte stack``: where an action is, and who waits for whom. A real kernel, a real cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, time, threading
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)

def running(run, label):
    return any(a.label == label and a.phase == "running" for a in run.actions)

def helper(seconds):
    end = time.time() + seconds
    while time.time() < end:
        sum(range(1000))

@env.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)  # dozing
    return seconds

@env.task
def compute(seconds: float) -> float:
    helper(seconds)
    return seconds

@env.task
async def busy(seconds: float) -> float:
    helper(seconds)
    return seconds

@env.task
def doze(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@env.task
def waiter(seconds: float) -> float:
    return doze(seconds)

@env.task
async def middle(n: int) -> int:
    found = await asyncio.gather(*(nap(600.0 + x) for x in range(n)))
    return len(found)

@env.task
async def main(n: int) -> int:
    return await middle(n)  # here

flyte.init(n_workers=2)
"""


@pytest.fixture(autouse=True)
def cancelled(nb: Kernel) -> Iterator[None]:
    """Nothing goes on after a test."""
    yield
    nb.run("run.abort(); await until(run.done)", timeout=30).ok()


def start(nb: Kernel, call: str, label: str) -> None:
    nb.run(f"run = flyte.run({call}); await until(lambda: running(run, {label!r}))").ok()


def stack_of(nb: Kernel, call: str, label: str) -> str:
    """What ``%flyte stack`` says of a run's first action, once an action of that label runs."""
    start(nb, call, label)
    return nb.run("%flyte stack a0").ok().stdout


def test_a_suspended_action_shows_the_line_it_awaits(nb: Kernel) -> None:
    """With the text of the notebook's line, which the worker doesn't have."""
    text = stack_of(nb, "nap, 600.0", "nap(600.0)")

    assert "nap(600.0): running" in text
    assert "await asyncio.sleep(seconds)  # dozing" in text
    assert "waits for asyncio.sleep" in text
    assert "In[" in text


def test_a_computing_sync_action_shows_where_its_thread_is(nb: Kernel) -> None:
    """Down to the helper that it called."""
    text = stack_of(nb, "compute, 600.0", "compute(600.0)")

    assert "helper(seconds)" in text
    assert "in helper" in text
    assert "lane.py" not in text


def test_an_async_action_that_blocks_its_loop_is_seen_from_outside(nb: Kernel) -> None:
    """Its loop cannot answer."""
    text = stack_of(nb, "busy, 600.0", "busy(600.0)")

    assert "in helper" in text
    assert "in busy" in text


def test_a_sync_action_says_which_action_it_waits_for(nb: Kernel) -> None:
    """Blocked in a plain call of a child."""
    text = stack_of(nb, "waiter, 600.0", "doze(600.0)")

    assert "return doze(seconds)" in text
    assert "waits for action doze(600.0)" in text
    assert "awaits:" in text


def test_a_waiting_parent_shows_the_chain_of_children(nb: Kernel) -> None:
    """main waits for middle, which waits for naps."""
    text = stack_of(nb, "main, 3", "nap(602.0)")

    assert "return await middle(n)  # here" in text
    assert "waits for action middle(3)" in text
    below = text.partition("awaits:")[2].splitlines()
    assert any(
        line.startswith("  a1 middle(3): running") and "asyncio.gather: 3 of 3 unfinished" in line for line in below
    )
    assert sum("nap(60" in line and line.startswith("    a") for line in below) == 3


def test_a_run_is_a_tree_on_one_screen(nb: Kernel) -> None:
    """500 waiting calls are a few lines and a count."""
    start(nb, "main, 500", "nap(603.0)")
    nb.run("await until(lambda: len(run.actions) == 502)").ok()

    lines = nb.run("%flyte stack").ok().stdout.splitlines()
    assert "502 unfinished" in lines[0]
    assert lines[1].startswith("  a0 main(500): running")
    assert lines[2].startswith("    a1 middle(500): running")
    assert any(line.startswith("      ... and ") and line.endswith("of demo.nap") for line in lines)
    assert "of 2 slots compute" in lines[-1]
    assert len(lines) < 50


def test_the_button_answers_while_a_cell_runs(nb: Kernel) -> None:
    """The view gets text, from the engine's thread."""
    start(nb, "nap, 600.0", "nap(600.0)")
    nb.run(
        "from flyte_nb.kernel.session import Session\nsession = Session.current\n"
        "async def press(): return await session.command(run.name, 'stack', {'action': 'a0'})"
    ).ok()

    assert "dozing" in nb.run("print(session.engine.call(press)['text'])").ok().stdout


def test_a_run_that_is_over_says_so(nb: Kernel) -> None:
    """And an unknown name is named."""
    nb.run("run = flyte.run(nap, 0.0); run.wait()").ok()

    assert "nothing of it executes" in nb.run("%flyte stack").ok().stdout
    assert "no run or action r999" in nb.run("%flyte stack r999").ok().stdout
