"""What the live view costs a real run: a map of 100,000 no-ops and two floods of log lines, with the view on and off.

    python bench/view_cost.py [--actions 100000] [--lines 1000000] [--rounds 3] [--only map|flood]

A real Jupyter kernel on its embedded cluster; this process plays the browser: it takes every message, says `ready` to each
widget and shows the tree (in the map) or the log (in the floods). Rounds alternate, view off and view on. Printed beside
their marks: the difference in seconds and in CPU seconds of the engine thread (which carries controller, store and view, and
is what a large map waits for), messages and bytes a second, growth of the kernel's memory. Takes about five minutes. On a
machine that does something else meanwhile, wall seconds are noise and CPU seconds are not.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import queue
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from jupyter_client.manager import KernelManager

SETUP = """
%load_ext flyte_nb
import asyncio, gc, time
import flyte_nb as flyte
from flyte_nb.kernel.session import Session
Session.current.wait_ready(60)
env = flyte.TaskEnvironment("cost")

@env.task
async def noop(x: int) -> int:
    return x

@env.task
async def noisy(n: int, size: int = 40) -> float:
    text = "." * (size - 24)
    started = time.thread_time()
    for i in range(n):
        print(f"step {i:9d} loss {text}")
    return time.thread_time() - started

async def map_of(n):
    count = 0
    async for _ in flyte.map.aio(noop, range(n)):
        count += 1
    assert count == n

async def flood(tasks, lines):
    return sum(await asyncio.gather(*(noisy(lines) for _ in range(tasks))))

def view(on):
    # A run that nobody shows: what there is without views.
    shown = Session.current.shown
    shown.__dict__.pop("show", None)
    if not on:
        shown.show = lambda run, cell: None

def forget():
    # What earlier rounds left would slow Python's garbage collection down in later ones.
    Session.current.store.runs.clear()
    Session.current.shown.close_old()

def engine_seconds():
    return time.clock_gettime(time.pthread_getcpuclockid(Session.current.engine.thread.thread.ident))

async def timed(work):
    Session.current.gateway.ask(forget)
    gc.collect()
    engine, started = engine_seconds(), time.perf_counter()
    tasks = await work or 0.0
    took, spent = time.perf_counter() - started, engine_seconds() - engine
    views = Session.current.shown.views
    shown = Session.current.gateway.ask(lambda: next(reversed(views.values())).stats["seconds"] if views else 0.0)
    print("RESULT", took, spent, shown, tasks)
"""


class Measured(NamedTuple):
    """One round."""

    seconds: float
    #: CPU seconds of the engine thread, where controller, store and views run.
    engine: float
    #: Of which the view's own.
    own: float
    #: CPU seconds of the tasks' bodies.
    tasks: float
    messages: int
    bytes: int
    #: Most messages, and most bytes, within one second.
    burst: int
    burst_bytes: int
    #: Growth of the kernel's resident memory, in MB.
    grown: float


class FrontEnd:
    """A kernel, and a browser that shows whatever widget it is sent."""

    def __init__(self) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(stdout=-3, stderr=-3)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)
        self._logs = False

    def rss(self) -> float:
        """Resident memory of the kernel, in MB."""
        import psutil

        return psutil.Process(self.manager.provisioner.pid).memory_info().rss / 1e6

    def command(self, uid: str, op: str, **args: Any) -> None:
        """Send what the browser sends, by the control channel."""
        content = {"op": op, "args": args, "nonce": uuid.uuid4().hex, "comm_id": uid}
        self.client.control_channel.send(self.client.session.msg("flyte_ui", content))

    def run(self, code: str, *, logs: bool = False, patience: float = 600.0) -> tuple[str, list[tuple[float, int]]]:
        """Run a cell to its end, answering widgets. Returns what it printed, and (time, bytes) of the view's messages."""
        self._logs = logs
        sent = self.client.execute(code)
        printed: list[str] = []
        seen: list[tuple[float, int]] = []
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            kind, content = message["msg_type"], message["content"]
            mine = message["parent_header"].get("msg_id") == sent
            if kind == "stream" and mine:
                printed.append(content["text"])
            elif kind == "error" and mine:
                raise RuntimeError("\n".join(content["traceback"]))
            elif kind in ("comm_open", "comm_msg", "display_data", "update_display_data"):
                size = len(json.dumps(content)) + sum(map(len, message.get("buffers", ())))
                # The widget's code, once per widget, is no message of the view's stream.
                if kind != "comm_open":
                    seen.append((time.monotonic(), size))
                self._widget(kind, content)
            elif kind == "status" and mine and content["execution_state"] == "idle":
                return "".join(printed), seen
        raise TimeoutError(f"the cell did not end within {patience} s: {code}")

    def _widget(self, kind: str, content: dict[str, Any]) -> None:
        state = content.get("data", {}).get("state", {})
        if kind == "comm_open" and "uid" in state:
            uid = state["uid"]
            self.command(uid, "ready", view="bench", protocol=1)
            # A tree with one group open and its first rows on screen; in the floods, the log.
            ranges = [] if self._logs else [["a0/g:noop", 0, 30], ["a0/t:cost.noop", 0, 30]]
            self.command(uid, "visible_rows", view="bench", open=["a0"], ranges=ranges, numbers=[], logs=self._logs)

    def measure(self, work: str, *, on: bool, logs: bool) -> Measured:
        """One round."""
        self.run(f"view({on})")
        before = self.rss()
        text, seen = self.run(f"await timed({work})", logs=logs)
        grown = self.rss() - before
        seconds, engine, own, tasks = map(float, text.split("RESULT", 1)[1].split()[:4])
        by_second: dict[int, list[int]] = {}
        for at, size in seen:
            by_second.setdefault(int(at), []).append(size)
        return Measured(
            seconds, engine, own, tasks, len(seen), sum(size for _, size in seen),
            max(map(len, by_second.values()), default=0), max(map(sum, by_second.values()), default=0), grown,
        )  # fmt: skip

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)


def compare(
    front: FrontEnd, title: str, work: str, rounds: int, *, logs: bool, slower: float, memory: float | None
) -> bool:
    """Alternate rounds without and with the view; print them and the marks. Returns whether all marks are met."""
    off: list[Measured] = []
    on: list[Measured] = []
    for number in range(rounds):
        # In turns: off on, on off, and so on.
        for shown in (bool(number % 2), not number % 2):
            (on if shown else off).append(front.measure(work, on=shown, logs=logs))

    def slowed(pick: Callable[[Measured], float]) -> tuple[float, float]:
        """By how much the view changes something: medians, and best of each."""
        a, b = list(map(pick, off)), list(map(pick, on))
        return statistics.median(b) / statistics.median(a) - 1, min(b) / min(a) - 1

    wall = slowed(lambda one: one.seconds)
    # What a map waits for is the engine thread; what a flood waits for are the tasks that print.
    what, cpu = ("tasks", slowed(lambda one: one.tasks)) if logs else ("engine thread", slowed(lambda one: one.engine))
    rate = max(one.messages / one.seconds for one in on)
    stream = max(one.bytes / one.seconds for one in on) / 1e6
    burst, burst_bytes = max(one.burst for one in on), max(one.burst_bytes for one in on) / 1e6
    grown = max(one.grown for one in on)
    print(title)
    print(f"  seconds, view off {[round(one.seconds, 2) for one in off]}, on {[round(one.seconds, 2) for one in on]}")
    print(f"  engine CPU, view off {[round(one.engine, 2) for one in off]}, on {[round(one.engine, 2) for one in on]}")
    if logs:
        print(
            f"  tasks' CPU, view off {[round(one.tasks, 2) for one in off]}, on {[round(one.tasks, 2) for one in on]}"
        )
    marks = [
        (f"slower by {wall[0]:+.1%} (medians), {wall[1]:+.1%} (best of each)", f"<= {slower:.0%}", min(wall) <= slower),
        (
            f"{what} {cpu[0]:+.1%} CPU (medians), {cpu[1]:+.1%} (best of each)",
            f"<= {slower:.0%}",
            min(cpu) <= slower,
        ),
        (f"{rate:.1f} messages/s, {burst} in the fullest second", "<= 20", burst <= 20),
        (f"{stream:.2f} MB/s, {burst_bytes:.2f} MB in the fullest second", "<= 1", burst_bytes <= 1),
    ]
    if memory is not None:
        marks.append((f"kernel grew by {grown:.0f} MB at most", f"<= {memory:.0f}", grown <= memory))
    for said, limit, met in marks:
        print(f"  {said}   [{limit}] {'ok' if met else 'MISSED'}")
    own = statistics.median(one.own for one in on)
    share = own / statistics.median(one.engine for one in on)
    print(
        f"  of which the view's own, by its own count: {own:.3f} s, {share:.1%}; kernel {front.rss():.0f} MB",
        flush=True,
    )
    return all(met for _, _, met in marks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["map", "flood"])
    options = parser.parse_args()
    front = FrontEnd()
    good = True
    try:
        front.run(SETUP)
        front.run("await timed(map_of(5_000))")
        if options.only != "flood":
            n = options.actions
            good &= compare(
                front, f"map of {n:,} no-ops", f"map_of({n})", options.rounds, logs=False, slower=0.05, memory=None
            )
        if options.only != "map":
            front.run("await timed(flood(2, 10_000))", logs=True)
            lines = options.lines
            for title, tasks, each in (("one task", 1, lines), ("100 tasks", 100, lines // 100)):
                good &= compare(
                    front, f"{title} x {each:,} lines", f"flood({tasks}, {each})", options.rounds, logs=True, slower=0.10, memory=100.0
                )  # fmt: skip
    finally:
        front.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
