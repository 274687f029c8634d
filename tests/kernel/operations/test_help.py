"""`%flyte help`, completion and `%flyte time`: what a person types who does not know the names."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, time
import flyte_nb as flyte
flyte.init(n_workers=1)
env = flyte.TaskEnvironment("help")
@env.task
def work(x: float) -> float:
    time.sleep(x)
    if x < 0.02:
        raise ValueError("short")
    return x
"""


def completed(nb: Kernel, line: str) -> list[str]:
    """What the kernel offers at the end of a line."""
    found = nb.run(f"print(get_ipython().kernel.do_complete({line!r}, {len(line)})['matches'])").ok().stdout
    return [str(match) for match in eval(found)]


def test_names_are_offered_as_they_are_typed(nb: Kernel) -> None:
    """Subcommands, then options, actions that failed first, and runs."""
    nb.run("await asyncio.gather(work.aio(0.1), work.aio(0.01), work.aio(0.03), return_exceptions=True)").ok()
    assert ["recover", "replay", "results", "resume", "retry"] == [
        c for c in completed(nb, "%flyte re") if c != "report"
    ]
    assert ["--traceback", "--raw", "a2", "r1", "a1", "a3"] == completed(nb, "%flyte logs ")
    assert ["r1"] == completed(nb, "%flyte show r")
    assert not {"r1", "a1"} & set(completed(nb, "%flyte nest "))
    assert "It failed" in nb.run("%flyte help").ok().stdout
    assert "%flyte retry [r3 | a17]  run" in nb.run("%flyte help retry").ok().stdout
    assert "It is slow" in str(nb.run("print(get_ipython().find_line_magic('flyte').__doc__)").ok().stdout)


def test_where_the_time_went(nb: Kernel) -> None:
    """The last of nine calls on one slot waited for the others; two more slots would have helped."""
    assert "There is no run or action r99" in nb.run("%flyte time r99").ok().stdout
    nb.run("await asyncio.gather(*(work.aio(0.1) for _ in range(8)), work.aio(0.5))").ok()
    said = nb.run("%flyte time").ok().stdout
    assert "waited for a slot" in said
    assert "of 9 actions made" in said
    assert "work(0.5)" in said
    assert "Two more slots than the 1 of now would make it about" in said
    nb.run("for _ in range(3):\n    await work.aio(0.1)").ok()
    said = nb.run("%flyte time").ok().stdout
    assert "of 3 actions made" in said
    assert "More slots would bring next to nothing" in said
    said = nb.run("%flyte time a2").ok().stdout
    assert "running" in said
    assert "attempt 1 on w0, CPU" in said
    assert "r2/a1 work(0.1) is succeeded." in nb.run("%flyte why r2/a1").ok().stdout
    assert "Nothing waits." in nb.run("%flyte why").ok().stdout
