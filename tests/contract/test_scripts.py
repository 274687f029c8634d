"""Programs of several files, run as scripts: what their modules hold, what tasks import, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MODE = [pytest.param("local"), pytest.param("remote", marks=pytest.mark.cluster)]

FILES = {
    "shop/__init__.py": "from .prices import price\n",
    "shop/consts.py": "TAX = 10\n",
    "shop/prices.py": """
import asyncio, functools, threading
from dataclasses import dataclass
import flyte_nb as flyte
from . import consts

env = flyte.TaskEnvironment("shop")
lock, gate = threading.Lock(), asyncio.Semaphore(2)


class SoldOut(Exception):
    def __init__(self, what, left):
        super().__init__(what, left)
        self.left = left


@dataclass
class Order:
    what: str
    n: int = 1


@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def price(n):
    return n + consts.TAX


@env.task
async def charge(order: Order) -> int:
    async with gate:
        with lock:
            return price(order.n) + fib(10)


@env.task
def sells_out(order: Order) -> Order:
    raise SoldOut(order.what, 0)
""",
    "imported_late.py": "def late(x):\n    return x + 1\n",
    "main.py": """
from __future__ import annotations
import asyncio, enum, functools, os, sys
from typing import NamedTuple
from pydantic import BaseModel
import flyte_nb as flyte
import shop.prices as prices
from shop.prices import Order, SoldOut, charge, sells_out

env = flyte.TaskEnvironment("main", depends_on=[prices.env])


class Color(enum.Enum):
    RED = "r"


class Model(BaseModel):
    color: Color
    n: int | None = None


class Total(NamedTuple):
    money: int
    model: Model


class Impl:
    @functools.cached_property
    def value(self):
        return 7


class OwnError(Exception):
    pass


square = lambda x: x * x


@env.task
async def total(model: Model, impl: Impl, charged: int) -> Total:
    assert isinstance(model, Model) and model.color is Color.RED
    from imported_late import late
    return Total(late(square(charged)) + impl.value, model)


@env.task
async def fails() -> int:
    raise OwnError("own")


@env.task
async def main(n: int = 1) -> list:
    result = await total(Model(color=Color.RED), Impl(), await charge(Order("a", n)))
    seen = [type(result).__name__, result.money, result.model.color is Color.RED]
    try:
        await sells_out.aio(Order("b"))
    except SoldOut as exc:
        seen.append(exc.left)
    try:
        await fails()
    except OwnError as exc:
        seen.append(exc.code)
    return seen


if __name__ == "__main__":
    flyte.init()
    run = flyte.with_runcontext(mode=sys.argv[1]).run(main, n=5)
    run.wait()
    print("RESULT", run.outputs()[0])
""",
    "leaves.py": """
import asyncio
import flyte_nb as flyte

env = flyte.TaskEnvironment("leaves")


@env.task
async def writes(path: str) -> int:
    await asyncio.sleep(0.5)
    open(path, "w").close()
    return 1


if __name__ == "__main__":
    import sys
    print(flyte.run(writes, path=sys.argv[1]).url)
""",
    "again.py": """
import flyte_nb as flyte

env = flyte.TaskEnvironment("again")


@env.task
def two() -> int:
    return 2


if __name__ == "__main__":
    first = flyte.run(two).outputs()[0]
    flyte.shutdown()
    print("RESULT", first + flyte.run(two).outputs()[0])
""",
    "waits.py": """
import asyncio
import flyte_nb as flyte

env = flyte.TaskEnvironment("waits")


@env.task
async def sleeps(path: str) -> int:
    try:
        open(path, "w").close()
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        open(path + ".cancelled", "w").close()
        raise
    return 1


if __name__ == "__main__":
    import sys
    run = flyte.run(sleeps, path=sys.argv[1])
    run.wait()
""",
}


@pytest.fixture
def program(tmp_path: Path, root: Path):
    """Starts a script of the project, from another folder."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(tmp_path / script), *arguments], cwd="/", env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return start


@pytest.mark.parametrize("mode", MODE)
def test_a_program_of_several_files(program, mode):
    """Packages beside the script, classes of __main__, locks and caches in modules, modules that only a task imports."""
    said, _ = program("main.py", mode).communicate(timeout=100)

    assert "RESULT ['Total', 4908, True, 0, 'OwnError']" in said, said


@pytest.mark.cluster
def test_a_script_that_does_not_wait_lets_its_runs_end(program, tmp_path):
    """As on a Flyte server, where they would go on."""
    script = program("leaves.py", str(tmp_path / "written"))
    said, _ = script.communicate(timeout=100)

    assert (script.returncode, (tmp_path / "written").exists()) == (0, True), said


@pytest.mark.cluster
def test_ctrl_c_ends_the_run_that_is_waited_for(program, tmp_path):
    """The task sees its cancellation, and the script ends."""
    started = tmp_path / "started"
    script = program("waits.py", str(started))
    while not started.exists():
        assert script.poll() is None
    script.send_signal(signal.SIGINT)
    said, _ = script.communicate(timeout=100)

    assert "KeyboardInterrupt" in said
    assert (tmp_path / "started.cancelled").exists()


@pytest.mark.cluster
def test_after_a_shutdown_a_run_starts_anew(program):
    """With a new cluster."""
    said, _ = program("again.py").communicate(timeout=100)

    assert "RESULT 4" in said, said
