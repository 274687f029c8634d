"""Stops that others would lose or delay, in a real kernel with a real cluster: none of these cells ends by itself."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Execution, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, gc, os, signal, sys, time, weakref
import flyte_nb as flyte
env = flyte.TaskEnvironment("stops")

@env.task
async def square(x: int) -> int:
    return x * x

@env.task
async def forever() -> None:
    await asyncio.Event().wait()

@env.task
async def large(i: int) -> list:
    return [{"a": j, "b": str(j)} for j in range(200_000)]

class Sleepy:
    def __del__(self):
        time.sleep(0.05)

def collected(phase, info):
    time.sleep(0.02)

def started():
    print("ready")
    asyncio.get_running_loop().call_soon(print, "ready")

await square(1)
"""

#: Cells that spend nearly all of their time where what is raised is lost, or that catch it.
LOST = {
    "collector": "gc.callbacks.append(collected)\nprint('ready')\ntry:\n    while True: gc.collect()\nfinally:\n    gc.callbacks.remove(collected)",
    "del": "print('ready')\nwhile True: Sleepy()",
    "del that does not end": "class Long:\n    def __del__(self):\n        print('ready'); time.sleep(1e6)\nLong(); time.sleep(1e6)",
    "weak reference": "print('ready')\nwhile True:\n    one = Sleepy(); ref = weakref.ref(one, lambda _: time.sleep(0.05)); del one",
    "after an await": "await asyncio.sleep(0)\nprint('ready')\nwhile True: Sleepy()",
    "in a child": "async def child():\n    print('ready')\n    while True: Sleepy()\nawait asyncio.gather(child(), forever())",
}
#: Cells with thousands of calls, stopped as they begin, in the middle, and while they catch it.
MANY = {
    "gather": "print('ready')\nawait asyncio.gather(*(square(i) for i in range(20_000)), forever())",
    "gather that runs": "calls = asyncio.gather(*(square(i) for i in range(20_000)), forever()); started(); await calls",
    "gather of exceptions": "calls = asyncio.gather(*(forever() for _ in range(5_000)), return_exceptions=True); started(); await calls",
    "task group": "async with asyncio.TaskGroup() as group:\n    for _ in range(3_000): group.create_task(forever())\n    started()",
    "map": "print('ready')\nfor _ in flyte.map(square, range(20_000)): pass\ntime.sleep(1e6)",
    "large results": "print('ready')\nwhile True: await asyncio.gather(large(1), large(2))",
    "calls again": "try:\n    started(); await forever()\nexcept asyncio.CancelledError:\n    await forever()",
}


def stopped(kernel: Kernel, code: str) -> Execution:
    """Run a cell until it says "ready", press stop, and wait for its end."""
    cell = kernel.begin(code)
    cell.wait_for(lambda: "ready" in cell.stdout)
    kernel.interrupt()
    return cell.wait()


@pytest.mark.parametrize("name", [*LOST, *MANY])
def test_one_stop_ends_the_cell_quietly(nb: Kernel, name: str) -> None:
    """Nothing of it is said but the error, and the next cell is right."""
    cell = stopped(nb, (LOST | MANY)[name])

    assert cell.error.name in {"KeyboardInterrupt", "CancelledError"}
    assert ("", 1) == (cell.stderr, cell.error.traceback.count("Traceback (most recent call last)"))
    after = nb.run("await asyncio.gather(*(square(i) for i in range(5)))").ok()
    assert ("[0, 1, 4, 9, 16]", "") == (after.result, after.stderr)


def test_the_second_stop_ends_a_cell_that_awaits_again_and_again(nb: Kernel) -> None:
    """It raises KeyboardInterrupt, where asyncio knows only CancelledError."""
    cell = nb.begin(
        "while True:\n    try:\n        started(); await asyncio.sleep(1e6)\n    except asyncio.CancelledError:\n        print('caught')"
    )
    cell.wait_for(lambda: "ready" in cell.stdout)
    nb.interrupt()
    cell.wait_for(lambda: "caught" in cell.stdout)
    while not cell.done:  # presses that come at once count as one
        nb.interrupt()
        nb.read()

    assert "KeyboardInterrupt" == cell.error.name


def test_a_stop_before_the_code_of_a_cell_is_the_cells(nb: Kernel) -> None:
    """It came while the kernel prepared it."""
    nb.run(
        "hooks = get_ipython().events.callbacks['pre_run_cell']\n"
        "def press(info):\n    hooks.remove(press); os.kill(os.getpid(), signal.SIGINT)\n"
        "hooks.insert(0, press); None"
    ).ok()

    assert "KeyboardInterrupt" == nb.run("time.sleep(1e6)").error.name


def test_nothing_of_dasks_watches_the_collector(nb: Kernel) -> None:
    """Its callback would lose what is raised while it runs."""
    code = "[c for c in gc.callbacks if getattr(c, '__module__', '').startswith('distributed')]"

    assert "[]" == nb.run(code).ok().result
