"""Stops while the extension is loaded or unloaded, a session begins or closes: there as a whole, or not at all. A real kernel."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
import signal, sys, threading
import flyte_nb as flyte

def load(): get_ipython().run_line_magic("load_ext", "flyte_nb")
def unload(): get_ipython().run_line_magic("unload_ext", "flyte_nb")
def init(): flyte.init(n_workers=1)
def shutdown(): flyte.shutdown()

def stopped(act, at):
    "Press stop when it has called so many functions; returns how many it calls."
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"
        if event == "call" and calls == at:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    threading.Event().wait(0.05 if at else 0)  # what was held comes now
    return calls
"""
NEXT = """
%load_ext flyte_nb
import asyncio
from flyte_nb.kernel.session import Session
env = flyte.TaskEnvironment("next")

@env.task
async def square(x: int) -> int:
    return x * x

assert await asyncio.gather(*(square(i) for i in range(5))) == [0, 1, 4, 9, 16]
assert Session.current.store.runs, "it ran here, and not on the cluster"
len(get_ipython().events.callbacks["pre_run_cell"])
"""


def test_a_stop_at_any_moment_leaves_it_whole(kernel: Kernel) -> None:
    """The cell ends; the next one is right, and served by one extension."""
    kernel.run(DEFINE).ok()
    callbacks = kernel.run(NEXT).ok().result
    for act in ("load", "init", "shutdown", "unload"):
        before = "unload()" if act == "load" else NEXT
        kernel.run(before).ok()
        calls = int(str(kernel.run(f"stopped({act}, 0)").ok().result))
        for part in (0.4, 0.8, 0.95):
            kernel.run(before).ok()

            cell = kernel.run(f"stopped({act}, {int(part * calls) + 1})")

            assert (act, part, "KeyboardInterrupt") == (act, part, cell.error.name)
            assert (act, part, callbacks) == (act, part, kernel.run(NEXT).ok().result)


def test_a_stop_ends_the_import_of_the_extension(kernel: Kernel) -> None:
    """Also in a cell that awaits, which ipykernel stops only where it does; the next cell imports it."""
    kernel.run(
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'flyte_nb.kernel.session':\n"
        "            print('ready'); time.sleep(1e6)\n"
        "sys.meta_path.insert(0, Slow)"
    ).ok()
    cell = kernel.begin("%load_ext flyte_nb\nimport asyncio\nawait asyncio.sleep(1e6)")
    cell.wait_for(lambda: "ready" in cell.stdout)
    kernel.interrupt()

    assert "KeyboardInterrupt" == cell.wait().error.name
    assert "flyte_nb/kernel/extension" not in cell.error.traceback
    assert "1" == kernel.run("sys.meta_path.remove(Slow)\nimport flyte_nb as flyte\n" + NEXT).ok().result
