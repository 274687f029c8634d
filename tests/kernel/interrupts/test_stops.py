"""Stops that others would lose or delay, in a real kernel with a real cluster: none of these cells ends by itself."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Execution, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, contextlib, gc, os, signal, sys, time, weakref
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

@env.task
def double(x: int) -> int:
    return 2 * x

async def tidy(x):
    print('cleaned', await square(x))

class Room:
    async def __aenter__(self): pass
    async def __aexit__(self, *_): await tidy(7)

@contextlib.asynccontextmanager
async def room():
    try:
        yield
    finally:
        await asyncio.gather(tidy(7))

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


#: What cells call as the stop passes through them.
CLEAN_UP = {
    "finally": "try:\n    started(); await forever()\nfinally:\n    print('cleaned', await square(7))",
    "except that raises again": "try:\n    started(); await forever()\nexcept BaseException:\n    print('cleaned', await square(7)); raise",
    "gather": "try:\n    started(); await forever()\nfinally:\n    print('cleaned', sum(await asyncio.gather(*(square(i) for i in (2, 3, 6)))))",
    "helper": "try:\n    started(); await forever()\nfinally:\n    await tidy(7)",
    "helpers in tasks": "try:\n    started(); await forever()\nfinally:\n    await asyncio.wait_for(asyncio.shield(tidy(7)), 60)",
    "context manager": "async with Room():\n    started(); await forever()",
    "generator": "async with room():\n    started(); await forever()",
    "in a child": "async def child():\n    try: await forever()\n    finally: print('cleaned', (await asyncio.gather(square(7)))[0])\nstarted(); await asyncio.gather(child(), forever())",
    "in a task group": "async def child():\n    try: await forever()\n    finally: await tidy(7)\nasync with asyncio.TaskGroup() as group:\n    group.create_task(child()); started(); await forever()",
    "sync": "try:\n    print('ready'); time.sleep(1e6)\nfinally:\n    print('cleaned', double(24) + 1)",
    "map": "try:\n    print('ready')\n    while True: pass\nfinally:\n    print('cleaned', sum(flyte.map(square, [2, 3, 6])))",
    "large": "try:\n    started(); await asyncio.gather(*(square(i) for i in range(20_000)), forever())\nfinally:\n    print('cleaned', await square(7))",
}


@pytest.mark.parametrize("name", CLEAN_UP)
def test_clean_up_may_call_tasks(nb: Kernel, name: str) -> None:
    """It awaits what it calls; the cell still ends as one that was stopped."""
    cell = stopped(nb, CLEAN_UP[name])

    cell.wait_for(lambda: "cleaned 49" in cell.stdout)  # a gather does not wait for what cancels its children
    assert cell.error.name in {"KeyboardInterrupt", "CancelledError"}
    assert "" == cell.stderr


@pytest.mark.parametrize("last", ["await forever()", "await asyncio.shield(again())"])
def test_the_second_stop_ends_the_clean_up(nb: Kernel, last: str) -> None:
    """And nothing more is called then; what it has left behind and calls again and again does not stand in the way."""
    again = "over = []\nasync def again():\n    while not over:\n        try: await forever()\n        except asyncio.CancelledError: pass\n"
    cell = nb.begin(f"{again}try:\n    started(); await forever()\nfinally:\n    print('cleaning'); {last}")
    cell.wait_for(lambda: "ready" in cell.stdout)
    nb.interrupt()
    cell.wait_for(lambda: "cleaning" in cell.stdout)
    while not cell.done:
        nb.interrupt()
        nb.read()

    assert cell.error.name in {"KeyboardInterrupt", "CancelledError"}
    nb.run("assert 9 == await square(3)\nover.append(1)").ok()


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
