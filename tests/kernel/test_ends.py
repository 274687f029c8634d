"""The end of a kernel, however it comes: nothing of it is left, whatever its workers do. A real kernel, a real cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flyte_nb.core.transport.process_folder import prefix, roots
from tests.kernel.kernelclient import PATIENCE, Kernel, kernel_environment, wait_gone

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, atexit, os, re, subprocess
import flyte_nb as flyte
flyte.init(n_workers=2)
env = flyte.TaskEnvironment("ends")

@env.task
def holds_gil(mark: str) -> None:
    subprocess.Popen(["sleep", "1000"])
    open(mark, "w").close()
    re.match(r"(a+)+$", "a" * 60 + "b")

@env.task
async def large(data: bytes) -> int:
    return len(data)

await large(bytes(1_000_000))
"""

#: In good order, and as a Jupyter server does it where that takes too long; `bench/chaos/ends.py` has the others.
ENDS: dict[str, Callable[[Kernel], object]] = {
    "shutdown": lambda kernel: kernel._client.shutdown(),
    "SIGKILL to the group": lambda kernel: os.killpg(kernel.pid, signal.SIGKILL),
}


def folders(processes: list[psutil.Process]) -> list[Path]:
    """Folders that belong to these processes."""
    return [found for root in roots() for one in processes for found in root.glob(f"{prefix()}{one.pid}-*")]


def semaphores(processes: list[psutil.Process]) -> list[str]:
    """Lines of named semaphores that these processes have open; none where /proc does not tell."""
    maps = [Path(f"/proc/{one.pid}/maps") for one in processes]
    lines = [line for file in maps if file.exists() for line in file.read_text().splitlines()]
    return [line for line in lines if "/sem.mp-" in line and not line.endswith("(deleted)")]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(tmp_path: Path, end: str) -> None:
    """No process, be it the worker that holds its GIL or what its task started; no folder; and an orderly end runs atexit."""
    marks = [tmp_path / "holds", tmp_path / "atexit"]
    with Kernel.start() as kernel:
        kernel.run(DEFINE).ok()
        kernel.run(f"atexit.register(lambda: open({str(marks[1])!r}, 'w').close()); None").ok()
        kernel.begin(f"await holds_gil.aio({str(marks[0])!r})").wait_for(marks[0].exists)
        processes = kernel.processes()
        assert {"sleep"} <= {process.name() for process in processes}
        assert folders(processes)
        assert [] == semaphores(processes)  # they have no names any more, which an end could leave behind

        ENDS[end](kernel)
        assert [] == wait_gone(processes, PATIENCE)
        # The kernel's own, where it could not tidy up, go a moment after the last worker.
        assert [] == folders(processes)
        assert marks[1].exists() == (end == "shutdown")


def test_ctrl_c_held_down_ends_a_script_quietly(tmp_path: Path) -> None:
    """Python's traceback of the first, and no other."""
    program = (
        "import asyncio\nimport flyte_nb as flyte\nenv = flyte.TaskEnvironment('held')\n"
        "@env.task\nasync def forever() -> None:\n    print('begun', flush=True)\n    await asyncio.Event().wait()\n"
        "flyte.init(n_workers=1)\nflyte.run(forever).wait()\n"
    )
    (tmp_path / "script.py").write_text(program)
    script = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, **kernel_environment(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with script:
        assert script.stdout is not None
        said = next(line for line in script.stdout if "begun" in line)
        while script.poll() is None:
            os.killpg(script.pid, signal.SIGINT)
            time.sleep(0.03)
        said += script.stdout.read()

    assert -signal.SIGINT == script.returncode
    assert 1 == said.count("Traceback (most recent call last)"), said
    assert "Exception ignored" not in said
