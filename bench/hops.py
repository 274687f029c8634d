"""Where the time of one await goes: a line for each hop, in microseconds, the median of many. Runs in: the command line.

A clock that all processes of the machine share is read where an action passes: as it is called, handed to the engine's thread,
dispatched, read by the worker, executed, reported, settled, and awaited.

    python -m bench.hops
"""

from __future__ import annotations

import builtins
import statistics
import time
from collections.abc import Callable
from typing import Any

import distributed

import flyte_nb as flyte
from flyte_nb.core.control.controller import Controller
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.testing import run_cell

#: Awaits that are measured, after as many that are not.
AWAITS = 1_000
#: What happens between two readings.
HOPS = (
    "the call is bound, pickled and named (main thread)",
    "to the engine's thread",
    "announced and queued (engine thread)",
    "to a lane, over the link, read by the worker",
    "to the lane's thread, the slot, the body",
    "its outcome, to the worker's loop",
    "over the link, read by the engine's thread, settled",
    "to the main thread, and the cell goes on",
)

env = flyte.TaskEnvironment("bench-hops")


@env.task
async def noop(_n: int) -> float:
    return time.perf_counter()


def stamped(marks: list[float], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; when it is called, the time is noted."""

    def call(*args: Any, **kwargs: Any) -> Any:
        marks.append(time.perf_counter())
        return function(*args, **kwargs)

    return call


def stamp_worker() -> None:
    """On a worker: note when a bundle is read, and when an outcome is reported."""
    from flyte_nb.worker.deliveries import Deliveries
    from flyte_nb.worker.host import Host

    for owner, name in ((Deliveries, "_on_bundle"), (Host, "report")):
        marks: list[float] = []
        setattr(builtins, f"hops_{name}", marks)
        setattr(owner, name, stamped(marks, getattr(owner, name)))


def take_stamps() -> tuple[list[float], list[float]]:
    """On a worker: what was noted."""
    return builtins.hops__on_bundle, builtins.hops_report  # type: ignore[attr-defined]


def main() -> None:
    """Print the lines."""
    called: list[float] = []
    body: list[float] = []
    back: list[float] = []
    security = distributed.Security.temporary()
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, protocol="tls://", security=security
    )
    client = distributed.Client(cluster, set_as_default=False)
    client.run(stamp_worker)  # before a host takes its handlers
    kernel: list[list[float]] = []
    for owner, name in (
        (Gateway, "submit"),
        (Controller, "take"),
        (DaskExecutor, "start"),
        (DaskExecutor, "_on_ended"),
    ):
        marks: list[float] = []
        kernel.append(marks)
        setattr(owner, name, stamped(marks, getattr(owner, name)))
    flyte.init(cluster)

    async def cell() -> None:
        for i in range(2 * AWAITS):
            called.append(time.perf_counter())
            body.append(await noop(i))
            back.append(time.perf_counter())

    run_cell(cell)
    read, reported = next(iter(client.run(take_stamps).values()))
    submitted, taken, dispatched, ended = kernel
    passed = [called, submitted, taken, dispatched, read, body, reported, ended, back]
    for name, marks in zip(("called", *HOPS), passed, strict=True):
        assert len(marks) == len(called), f"{len(marks)} readings, not {len(called)}: {name}"
    rows = list(zip(*passed, strict=True))[AWAITS:]
    for number, hop in enumerate(HOPS):
        print(f"{hop:55} {1e6 * statistics.median(row[number + 1] - row[number] for row in rows):6.0f}")
    print(f"{'in all':55} {1e6 * statistics.median(row[-1] - row[0] for row in rows):6.0f}")
    flyte.shutdown()
    client.close()
    cluster.close()


if __name__ == "__main__":
    main()
