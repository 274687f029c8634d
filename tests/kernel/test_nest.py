"""Nested event loops: advice by default, nest-asyncio2 on request, a warning about nest_asyncio 1.x."""

from __future__ import annotations

import asyncio

import pytest

from flyte_nb.kernel.operations.nest import REMEDY, WARNING, Nesting, is_nested_loop_error, nesting
from tests.kernel.conftest import INSTALL
from tests.kernel.kernelclient import Kernel

ADVISE = f"""{INSTALL}
from flyte_nb.kernel.operations import nest
advisor = nest.NestAdvisor(cells); advisor.install(); advisor.install()
async def main(): await asyncio.sleep(0); return "done"
"""


async def test_asyncios_own_words_are_recognised() -> None:
    """Each of the ways to nest a loop raises an error that counts; other errors don't."""
    loop = asyncio.get_running_loop()
    other = asyncio.new_event_loop()
    try:
        for nested in (asyncio.run, loop.run_until_complete, other.run_until_complete):
            waiting = asyncio.sleep(0)
            with pytest.raises(RuntimeError) as caught:
                nested(waiting)
            waiting.close()
            assert is_nested_loop_error(caught.value)
    finally:
        other.close()

    assert not is_nested_loop_error(RuntimeError("out of memory"))
    assert not is_nested_loop_error(ValueError("cannot be called from a running event loop"))


def test_nothing_is_patched_by_default() -> None:
    """asyncio is as Python made it."""
    assert nesting() is Nesting.NONE


@pytest.mark.kernel
@pytest.mark.parametrize(
    "code",
    [
        "asyncio.run(main())",
        "await asyncio.sleep(0); asyncio.run(main())",
        "asyncio.get_event_loop().run_until_complete(main())",
    ],
)
def test_a_cell_that_nests_loops_gets_one_line_of_advice_under_its_error(kernel: Kernel, code: str) -> None:
    """The error is the stock one; the line below names both ways out."""
    kernel.run(ADVISE).ok()
    cell = kernel.run(code)

    assert "RuntimeError" == cell.error.name
    assert 1 == cell.stderr.count(REMEDY)


@pytest.mark.kernel
def test_other_errors_get_no_advice_and_none_comes_after_uninstall(kernel: Kernel) -> None:
    """Advice is for one mistake only."""
    kernel.run(ADVISE).ok()
    assert REMEDY not in kernel.run("raise RuntimeError('out of memory')").stderr
    kernel.run("advisor.uninstall(); advisor.uninstall()").ok()

    assert REMEDY not in kernel.run("asyncio.run(main())").stderr


@pytest.mark.kernel
@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["sync", "async"])
def test_nest_lets_asyncio_run_work_and_loses_no_queued_cell(kernel: Kernel, prefix: str) -> None:
    """Cells that arrive while `asyncio.run` runs are executed after it."""
    kernel.run(ADVISE).ok()
    assert "nest-asyncio2" in str(kernel.run("nest.nest(None)").ok().result)
    assert "already" in str(kernel.run("nest.nest(None)").ok().result)
    running = kernel.begin(
        f"{prefix}go = asyncio.Event()\nprint('ready')\nasyncio.run(asyncio.sleep(0.5))\nawait_result = asyncio.run(main())\nawait_result"
    )
    running.wait_for(lambda: "ready" in running.stdout)
    queued = [kernel.begin(f"{n} * 10") for n in range(3)]

    assert "'done'" == running.ok().result
    assert ["0", "10", "20"] == [cell.ok().result for cell in queued]


@pytest.mark.kernel
def test_stop_ends_a_nested_loop(kernel: Kernel) -> None:
    """Under `%flyte nest` the stop button works inside `asyncio.run`, in a sync and in an async cell."""
    kernel.run(ADVISE).ok()
    kernel.run("nest.nest(None)").ok()
    for prefix in ("", "await asyncio.sleep(0)\n"):
        cell = kernel.begin(f"{prefix}print('ready')\nasyncio.run(asyncio.Event().wait())")
        cell.wait_for(lambda cell=cell: "ready" in cell.stdout)  # type: ignore[misc]
        kernel.interrupt()
        assert cell.wait().error.name in ("KeyboardInterrupt", "CancelledError")

    assert "42" == kernel.run("await asyncio.sleep(0); 42").ok().result


@pytest.mark.kernel
def test_nest_asyncio_1_is_warned_about_once(kernel: Kernel) -> None:
    """It loses messages on ipykernel 7; nest-asyncio2 can't replace it in a running kernel, and says so."""
    kernel.run(ADVISE).ok()
    cells = [kernel.run("asyncio._nest_patched = True"), kernel.run("1"), kernel.run("2")]
    refused = kernel.run("nest.nest(None)")

    loses_messages = "True" == kernel.run("import ipykernel; ipykernel.version_info[0] >= 7").ok().result
    assert [int(loses_messages), 0, 0] == [cell.stderr.count(WARNING) for cell in cells]
    assert "restart the kernel" in refused.error.value
