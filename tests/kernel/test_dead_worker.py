"""A worker dies: the error of the lost action is its post-mortem. A real kernel, a real cluster."""

from __future__ import annotations

import re

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, os, signal
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def deadly(x: int) -> None:
    print("about to die of", x)
    await asyncio.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_error_says_how_it_ended_what_it_ran_and_what_was_said_last() -> None:
    """Signal, memory, actions, last lines; `%flyte logs` tells of every loss; other actions run as before."""
    with Kernel.start() as nb:
        nb.run(DEFINE).ok()
        error = nb.run("await deadly(7)").error
        logs = nb.run("%flyte logs a1").ok().stdout

        assert "WorkerLostError" in error.traceback
        assert "killed by SIGKILL" in error.value
        assert "it ran a1 deadly(7)" in error.value
        assert "a1: about to die of 7" in error.value
        assert re.search(r"it used [\d.]+ MiB when last seen", error.value), error.value
        assert 3 == logs.count("killed by SIGKILL")
        assert "'fine'" == nb.run("await asyncio.sleep(0, 'fine')").ok().result
