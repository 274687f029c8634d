"""Clusters that are closed, or replaced, while something runs on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from pathlib import Path

import pytest

import flyte_nb as flyte
from flyte_nb.core.history.facts import Phase
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("closing")
#: Seconds after which something counts as never happening.
NEVER = 30.0


@env.task
async def wait_for_ever(mark: str) -> None:
    """Begin, and never end."""
    Path(mark).touch()
    await asyncio.Event().wait()


@env.task
async def parent(mark: str) -> None:
    """Await one."""
    await wait_for_ever(mark)


@env.task
def quick(x: int) -> int:
    """One for the cluster that follows."""
    return x


@env.task
def noisy_loggers() -> list[str]:
    """Loggers of Dask's that would print in this worker."""
    import distributed.batched  # noqa: F401

    names = ["distributed", "tornado.application", *logging.root.manager.loggerDict]
    return [n for n in names if n.startswith(("distributed", "tornado.app")) and logging.getLogger(n).isEnabledFor(40)]


def test_workers_print_nothing_of_dasks_as_they_close() -> None:
    """Handlers are heard again while a worker closes, so the loggers themselves are quiet."""
    flyte.init(n_workers=1)
    assert flyte.run(noisy_loggers).outputs()[0] == []


def begun(mark: Path) -> None:
    """Return once the mark is there."""
    end = threading.Event()
    for _ in range(int(NEVER / 0.02)):
        if mark.exists():
            return
        end.wait(0.02)
    raise AssertionError(f"{mark} never came")


def test_whoever_waits_when_the_cluster_is_replaced_hears_of_it(tmp_path: Path) -> None:
    """Awaits of a cell and of a run end with ActionAbortedError; the next cluster works."""
    flyte.init(n_workers=1)
    assert Session.current is not None
    Session.current.wait_ready(60)
    heard: list[BaseException] = []

    async def cell() -> None:
        calls = wait_for_ever(str(tmp_path / "a")), parent(str(tmp_path / "b"))
        heard.extend(e for e in await asyncio.gather(*calls, return_exceptions=True) if e is not None)

    def run() -> None:
        # Its helper closes the run at the end, on a thread that may be gone by then.
        with contextlib.suppress(RuntimeError):
            run_cell(cell)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun(tmp_path / "a")
    begun(tmp_path / "b")
    root = flyte.run(parent, str(tmp_path / "c"))
    begun(tmp_path / "c")
    try:
        flyte.init(n_workers=1)
        thread.join(NEVER)
        assert not thread.is_alive()
        assert [type(error) for error in heard] == [flyte.errors.ActionAbortedError] * 2
        assert "cluster was closed" in str(heard[0])
        waiter = threading.Thread(target=root.wait, daemon=True)
        waiter.start()
        waiter.join(NEVER)
        assert not waiter.is_alive()
        assert root.phase is Phase.ABORTED
        with pytest.raises(flyte.errors.ActionAbortedError):
            root.outputs()
        assert flyte.run(quick, 7).outputs()[0] == 7
    finally:
        flyte.shutdown()
