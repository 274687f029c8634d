"""What a person sees in terminal IPython, on an emulated screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

from tests.kernel.kernelclient import PATIENCE, kernel_environment

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

TASKS = """
import asyncio, os, time
import flyte_nb as flyte
from flyte_nb.kernel.session import Session
env = flyte.TaskEnvironment("screen")
Session.current.wait_ready(60)

@env.task
async def work(i: int, gate: str = "") -> int:
    print("hello", i)
    while gate and not os.path.exists(gate):
        await asyncio.sleep(0.01)
    if i == 7:
        raise ValueError("seven")
    return i * i

@env.task
async def chatter(gate: str) -> None:
    while not os.path.exists(gate):
        print("still here")
        await asyncio.sleep(0.02)

class Slow(list):
    def __repr__(self):
        time.sleep(1.5)  # news enough for many a picture
        return "slow " + super().__repr__()
"""


class Screen:
    """A terminal with IPython in it."""

    def __init__(self, folder: Path) -> None:
        self.screen = pyte.Screen(120, 60)
        self.stream = pyte.Stream(self.screen)
        environment = {**kernel_environment(folder), "PATH": "/usr/bin:/bin", "TERM": "xterm", "HOME": str(folder)}
        arguments = ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--HistoryManager.enabled=False"]
        self.child = pexpect.spawn(
            sys.executable, arguments, env=environment, cwd=str(folder), encoding="utf-8", dimensions=(60, 120)
        )

    @property
    def lines(self) -> list[str]:
        """What is on it."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def wait(self, seen: Callable[[str], bool]) -> None:
        """Read until it shows something."""
        deadline = time.monotonic() + PATIENCE
        while not seen("\n".join(self.lines)):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            try:
                self.stream.feed(self.child.read_nonblocking(65536, 0.05))
            except pexpect.TIMEOUT:
                continue

    def run(self, line: str, prompt: int) -> None:
        """Type a line, and wait for the next prompt."""
        self.child.send(line + "\r")
        self.wait(lambda text: text.endswith(f"In [{prompt}]:"))


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    """IPython with the extension loaded and a task defined."""
    (tmp_path / "tasks.py").write_text(TASKS)
    screen = Screen(tmp_path)
    try:
        screen.wait(lambda text: "In [1]:" in text)
        screen.run("%load_ext flyte_nb", 2)
        screen.run("%run -i tasks.py", 3)
        yield screen
    finally:
        screen.child.close(force=True)


def test_value_logs_and_tree_stand_one_below_the_other(screen: Screen) -> None:
    """Log lines, then the cell's value, then the final tree; nothing is drawn over anything."""
    screen.run("await asyncio.gather(*(work(i) for i in range(4)))", 4)
    lines = screen.lines
    value = lines.index("Out[3]: [0, 1, 4, 9]")
    asked = next(i for i, line in enumerate(lines) if line.startswith("In [3]: await asyncio.gather"))
    assert sorted(lines[asked + 1 : value]) == [f"work({i}): hello {i}" for i in range(4)]
    assert lines[value + 1].startswith("✓ r1 succeeded")
    assert [line.split()[1] for line in lines[value + 3 : value + 7]] == [f"work({i})" for i in range(4)]


def test_the_tree_waits_until_a_value_is_written(screen: Screen, tmp_path: Path) -> None:
    """Between the prompt Out[3] and a value whose repr takes long nothing is drawn, whatever else goes on."""
    gate = tmp_path / "gate"
    screen.run(f"noise = asyncio.ensure_future(chatter({str(gate)!r})); Slow([await work(2)])", 4)
    gate.touch()
    assert "Out[3]: slow [4]" in screen.lines


def test_a_traceback_is_not_drawn_over(screen: Screen, tmp_path: Path) -> None:
    """One action fails while others go on: the traceback is whole, the tree below it, and the prompt is free."""
    gate = tmp_path / "gate"
    screen.run(f"await asyncio.gather(work(7), work(1, {str(gate)!r}))", 4)
    text = "\n".join(screen.lines)
    for part in ("Traceback (most recent call last)", "ValueError: seven", "r1 goes on; %flyte show r1 shows it"):
        assert part in text
    assert text.index("ValueError: seven") < text.index("r1 goes on")
    gate.touch()
    screen.run("1 + 1", 5)
    assert "Out[4]: 2" in screen.lines
