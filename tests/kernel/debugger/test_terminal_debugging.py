"""Retry, debug and attach in IPython in a terminal, which has no kernel and no loop between its cells."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.kernel.kernelclient import PATIENCE, kernel_environment

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

SETUP = """
import asyncio
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")
FACTOR = 0

@env.task
async def divide(x: int) -> float:
    y = x * 2
    return y / FACTOR

@env.task
async def halting(x: int) -> int:
    breakpoint()
    return x + 1
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """IPython in a pseudo-terminal, with the extension loaded and the tasks defined."""
    (tmp_path / "setup.py").write_text(SETUP)
    environment = {
        **kernel_environment(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb", "HOME": str(tmp_path),
        "FLYTE_NB_NONINTERACTIVE": "1",
    }  # fmt: skip
    options = ["--simple-prompt", "--no-banner", "--colors=nocolor", "--HistoryManager.enabled=False", "--ext=flyte_nb"]
    child = pexpect.spawn(
        sys.executable, ["-m", "IPython", *options], env=environment, cwd=str(tmp_path), timeout=PATIENCE,
        encoding="utf-8", dimensions=(50, 250),
    )  # fmt: skip
    try:
        child.expect_exact("In [1]: ")
        child.sendline("exec(open('setup.py').read())")
        child.expect_exact("In [2]: ")
        yield child
    finally:
        child.close(force=True)


def test_a_failure_is_debugged_and_retried_in_a_terminal(terminal: pexpect.spawn) -> None:
    """The short error, `%flyte debug`, `%flyte retry` with the globals of now, all results."""
    terminal.sendline("await asyncio.gather(divide(3), divide(4))")
    terminal.expect_exact("ZeroDivisionError: division by zero")
    terminal.expect(re.compile(r"\d of 2 failed"))
    terminal.expect_exact("In [3]: ")
    terminal.sendline("%flyte debug a1")
    terminal.expect_exact("ipdb> ")
    terminal.sendline("p y * 1000")
    terminal.expect_exact("6000")
    terminal.sendline("q")
    terminal.expect_exact("In [4]: ")
    terminal.sendline("FACTOR = 4")
    terminal.expect_exact("In [5]: ")
    terminal.sendline("%flyte retry")
    terminal.expect_exact("Retrying 2 actions of r1")
    terminal.sendline("await flyte.last_run()")
    terminal.expect_exact("[1.5, 2.0]")


def test_a_breakpoint_is_attached_to_in_a_terminal(terminal: pexpect.spawn) -> None:
    """With the terminal's own input."""
    terminal.sendline("run = flyte.run(halting, 41)")
    terminal.sendline("while not (run.action and str(run.action.phase) == 'paused'): await asyncio.sleep(0.05)")
    terminal.sendline("print('stands', 'there')")
    terminal.expect_exact("stands there")
    terminal.sendline("%flyte attach")
    terminal.expect_exact("a0> ")
    terminal.sendline("p x * 100")
    terminal.expect_exact("4100")
    terminal.sendline("c")
    terminal.expect_exact("a0 goes on.")
    terminal.sendline("await run")
    terminal.expect_exact("42")
