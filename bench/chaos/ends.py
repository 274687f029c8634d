"""Ends of kernels and scripts, however they come: quick, and nothing is left. Runs in: the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import psutil
from nbclient import NotebookClient

from bench.chaos._cells import BEGIN
from bench.chaos._rows import patiently, row, status
from flyte_nb.core.transport.process_folder import prefix, roots
from tests.kernel.kernelclient import Kernel, kernel_environment

#: Seconds of an orderly end, and until nothing is left after any other.
SHUTDOWN_S, GONE_S = 1.0, 5.0
#: Seconds that a restart, or a whole notebook, may take longer than with a bare kernel.
RESTART_S, NOTEBOOK_S = 1.5, 5.0
DEFINE = (
    BEGIN
    + """
import atexit, re
@env.task
def hold() -> None:
    subprocess.Popen(["sleep", "1000"])
    re.match(r"(a+)+$", "a" * 60 + "b")
@env.task
async def large(data: bytes) -> int: return len(data)
assert await asyncio.gather(*(large(bytes(2_000_000 + i)) for i in range(4)))
"""
)
WORK = {
    "idle": "pass",
    "with work": "await asyncio.gather(*(nap(60.0) for _ in range(20)), spin.aio(60.0))",
    "busy": "while True: pass",
    "GIL held": "await asyncio.gather(hold.aio(), hold.aio())",
}
SCRIPT = """
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("s")
@env.task
async def nap(s: float) -> float:
    print("begun", flush=True)
    await asyncio.sleep(s); return s
run = flyte.run(nap, s=60.0)
run.wait()
"""


def to_process(number: signal.Signals) -> Callable[[Kernel], object]:
    """An end by a signal."""
    return lambda kernel: os.kill(kernel.pid, number)


ENDS: list[tuple[str, str, Callable[[Kernel], object]]] = [
    *[("shutdown", work, lambda kernel: kernel._client.shutdown()) for work in WORK],
    *[("SIGKILL", work, to_process(signal.SIGKILL)) for work in ("idle", "with work", "GIL held")],
    ("SIGKILL to the group", "GIL held", lambda kernel: os.killpg(kernel.pid, signal.SIGKILL)),
    ("SIGTERM", "GIL held", to_process(signal.SIGTERM)),
    ("SIGHUP", "with work", to_process(signal.SIGHUP)),
    ("os._exit", "idle", lambda kernel: kernel.begin("os._exit(3)")),
]  # fmt: skip


def left_of(processes: list[psutil.Process]) -> list[str]:
    """What is there of these processes: themselves, and their folders."""
    alive = []
    for one in processes:
        try:
            if one.status() != psutil.STATUS_ZOMBIE:
                alive.append(f"{one.pid} {one.name()}")
        except psutil.Error:
            pass
    return alive + [str(f) for root in roots() for one in processes for f in root.glob(f"{prefix()}{one.pid}-*")]


def semaphores_of(processes: list[psutil.Process]) -> set[str]:
    """Files of the named semaphores that these processes have open; empty where /proc does not tell."""
    maps = [Path(f"/proc/{one.pid}/maps") for one in processes]
    lines = [line for file in maps if file.exists() for line in file.read_text().splitlines()]
    return {line.split()[-1] for line in lines if "/dev/shm/sem." in line and not line.endswith("(deleted)")}


def check(how: str, work: str, end: Callable[[Kernel], object]) -> None:
    """End a kernel, and print what was seen."""
    bound = SHUTDOWN_S if how == "shutdown" else GONE_S
    with tempfile.TemporaryDirectory() as folder, Kernel.start() as kernel:
        mark = Path(folder, "atexit")
        kernel.run(DEFINE + f"atexit.register(lambda: open({str(mark)!r}, 'w').close())").ok()
        if work != "idle":
            kernel.begin(WORK[work])
            time.sleep(1.5)
        processes = kernel.processes()
        made = semaphores_of(processes)
        began = time.monotonic()
        end(kernel)
        while left_of(processes) and time.monotonic() - began < GONE_S + 5:
            time.sleep(0.01)
        seconds, left = time.monotonic() - began, left_of(processes)
        while any(map(os.path.exists, made)) and time.monotonic() - began < GONE_S:
            time.sleep(0.05)
        left += sorted(filter(os.path.exists, made))[:3]
        if how == "shutdown" and not mark.exists():
            left.append("atexit did not run")
        # A worker that holds its GIL, or spins, has its grace.
        limit = bound if work in {"idle", "busy"} or how != "shutdown" else bound + 0.5
        row(
            f"end: {how}, {work}",
            f"{seconds:.2f} s {'; '.join(left)}".strip(),
            f"{limit} s, nothing left",
            not left and seconds <= limit,
        )


def check_script(presses: int, gap: float) -> None:
    """Press Ctrl-C in a script some times."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "script.py").write_text(SCRIPT)
        script = subprocess.Popen(
            [sys.executable, "script.py"], cwd=folder, env={**os.environ, **kernel_environment(Path(folder))},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        assert script.stdout is not None
        next(line for line in script.stdout if "begun" in line)
        processes = [psutil.Process(script.pid), *psutil.Process(script.pid).children(recursive=True)]
        began = time.monotonic()
        for _ in range(presses):
            if script.poll() is None:
                os.killpg(script.pid, signal.SIGINT)
            time.sleep(gap)
        said, _ = script.communicate(timeout=30)
        while left_of(processes) and time.monotonic() - began < GONE_S:
            time.sleep(0.01)
        seconds, left, told = time.monotonic() - began, left_of(processes), said.count("Traceback")
        figure = f"{seconds:.2f} s, {told} tracebacks {'; '.join(left)}".strip()
        ok = told <= 1 and "Exception ignored" not in said and not left and seconds <= GONE_S
        row(f"end: script, Ctrl-C {presses} times", figure, f"{GONE_S} s, one traceback", ok)


def check_restart() -> None:
    """How much longer a restart takes, to the first cell's end, of a kernel whose cluster works."""
    seconds = []
    for source in ("1 + 1", DEFINE):
        with Kernel.start() as kernel:
            kernel.run(source).ok()
            if source is DEFINE:
                kernel.begin(WORK["with work"])
                time.sleep(1.5)
            began = time.monotonic()
            kernel.restart()
            kernel.run("1 + 1").ok()
            seconds.append(time.monotonic() - began)
    longer = seconds[1] - seconds[0]
    row(
        "end: restart, longer than without", f"{longer:.2f} s ({seconds[0]:.2f}, {seconds[1]:.2f})",
        f"{RESTART_S} s", longer <= RESTART_S,
    )  # fmt: skip


def with_papermill(notebook: nbformat.NotebookNode) -> None:
    """Run it as papermill does."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "notebook.ipynb")
        nbformat.write(notebook, file)
        papermill.execute_notebook(file, file, kernel_name="python3", progress_bar=False, log_output=False)


RUNNERS: dict[str, Callable[[nbformat.NotebookNode], object]] = {
    "nbclient": lambda notebook: NotebookClient(notebook, timeout=60).execute(),
    "papermill": with_papermill,
}


def check_notebook(runner: str) -> None:
    """How much longer a notebook takes to run that loads the extension and awaits a task."""
    seconds = []
    for source in ("1 + 1", DEFINE):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        began = time.monotonic()
        RUNNERS[runner](notebook)
        seconds.append(time.monotonic() - began)
    longer = seconds[1] - seconds[0]
    row(
        f"end: {runner}, longer than without", f"{longer:.2f} s ({seconds[0]:.2f}, {seconds[1]:.2f})",
        f"{NOTEBOOK_S} s", longer <= NOTEBOOK_S,
    )  # fmt: skip


def main() -> int:
    """Print the rows; 0 if all hold."""
    for end in ENDS:
        patiently(check, *end)
    for presses, gap in ((1, 0.0), (3, 0.03), (25, 0.1)):
        patiently(check_script, presses, gap)
    patiently(check_restart)
    for runner in RUNNERS:
        patiently(check_notebook, runner)
    return status()


if __name__ == "__main__":
    sys.exit(main())
