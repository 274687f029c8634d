"""What failure records cost: time and memory of a thousand failing actions, from the worker to the awaiting cell.

    python bench/failure_records.py

Measures the two ends in one process, without a cluster: `capture` and `dumps` (worker), `loads`, `to_exception` (kernel), and
the short text. The marks: 1,000 failing actions under 2 s and 200 MB, nothing for an action that succeeds.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flyte_nb.core.failures import capture as failure
from flyte_nb.core.failures import rebuild as remote_traceback
from flyte_nb.core.failures import traceback_text
from flyte_nb.core.failures.record import FailureRecord

ACTIONS = 1_000


def simple(number: int) -> int:
    rows = {"a": number}
    return rows["b"]


def typical(number: int) -> int:
    config = {"rate": 0.5, "names": ["a", "b", "c"], "password": "x" * 12}
    rows = [{"id": n, "value": n * 0.5} for n in range(50)]
    text = "line\n" * 100
    return simple(number) + len(config) + len(rows) + len(text)


def frame(number: int) -> int:
    import pandas as pd

    table = pd.DataFrame({"x": range(200), "y": range(200)})
    return int(table["missing"].sum()) + number


def large(number: int) -> int:
    blocks = [bytes(30_000) for _ in range(20)]
    first, second, third = bytes(30_000), bytes(31_000), bytes(32_000)
    raise ValueError(len(blocks) + len(first) + len(second) + len(third) + number)


def recursive(number: int) -> int:
    return recursive(number + 1)


async def grouped(number: int) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(20):
            group.create_task(asyncio.to_thread(simple, number + n))


class Row(NamedTuple):
    name: str
    capture: float
    ship: float
    rebuild: float
    text: float
    size: int
    peak: float

    def __str__(self) -> str:
        total = (self.capture + self.ship + self.rebuild) * ACTIONS / 1e6
        return (
            f"{self.name:<12}{self.capture:>10.0f}{self.ship:>10.0f}{self.rebuild:>10.0f}{self.text:>10.0f}"
            f"{self.size / 1000:>10.1f}{total:>12.2f}{self.peak:>10.1f}"
        )


def measure(name: str, function: Callable[[int], object], actions: int) -> Row:
    """Each step over all actions, in microseconds an action; and the memory that all of it holds at the end, in MB."""
    failed = [_failed(function, n) for n in range(actions)]
    record = _capture(failed[0])
    record.dumps()
    times = []

    def timed(step: Callable[[], list[Any]]) -> list[Any]:
        start = time.perf_counter()
        result = step()
        times.append((time.perf_counter() - start) / actions * 1e6)
        return result

    records = timed(lambda: [_capture(exc) for exc in failed])
    shipped = timed(lambda: [record.dumps() for record in records])
    del records
    errors = timed(lambda: [remote_traceback.to_exception(FailureRecord.loads(data)) for data in shipped])
    timed(lambda: [traceback_text.render(error) for error in errors])
    size = sum(map(len, shipped)) // actions
    del errors, failed
    tracemalloc.start()
    held = [bytes(data) + b"" for data in map(bytearray, shipped)]  # As they arrive.
    kept = [remote_traceback.to_exception(FailureRecord.loads(data)) for data in held]
    peak = tracemalloc.get_traced_memory()[0] / 1e6 * ACTIONS / actions
    tracemalloc.stop()
    assert len(kept) == actions
    return Row(name, times[0], times[1], times[2], times[3], size, peak)


def _failed(function: Callable[[int], object], number: int) -> BaseException:
    try:
        result = function(number)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        return exc
    raise AssertionError(f"{function.__name__} did not fail")


def _capture(exc: BaseException) -> FailureRecord:
    return failure.capture(exc, task="bench.task", action="x", label="task(1)", attempt=0, worker="tcp://127.0.0.1:1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=ACTIONS, help="failing actions of each kind")
    actions = parser.parse_args().actions
    print(
        f"{'':<12}{'capture':>10}{'dumps':>10}{'rebuild':>10}{'text':>10}{'size':>10}{'1,000 take':>12}{'and hold':>10}"
    )
    print(f"{'':<12}{'us':>10}{'us':>10}{'us':>10}{'us':>10}{'kB':>10}{'s':>12}{'MB':>10}")
    few = min(actions, 100)
    many = [(function, actions) for function in (simple, typical, frame, large)]
    for function, number in (*many, (recursive, few), (grouped, few)):
        print(measure(function.__name__, function, number), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"peak memory of this process: {peak:.0f} MB")


if __name__ == "__main__":
    main()
