"""Failures that are hard to carry arrive all the same, bounded, through a real cluster into a real kernel."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = """
%load_ext flyte_nb
import asyncio, json, threading, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("odd")

class OddError(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"{code}: {detail}")
        self.code_of_mine, self.lock = code, threading.Lock()

class Raising:
    def __repr__(self): raise RuntimeError("no repr")

class Slow:
    def __repr__(self): time.sleep(60)

class Silent(Exception):
    def __str__(self): raise RuntimeError("no str")

def recurse(n): return recurse(n + 1)

@env.task
async def odd(kind: str) -> None:
    mine = kind
    if kind == "constructor": raise OddError(7, detail="odd")
    if kind == "lock": raise ValueError(threading.Lock())
    if kind == "c": json.loads("{")
    if kind == "huge":
        huge = [bytes(1000) for _ in range(100_000)]
        raise ValueError("huge")
    if kind == "recursive":
        loop = []
        loop.append(loop)
        raise ValueError("recursive")
    if kind == "repr":
        bad, slow = Raising(), Slow()
        raise ValueError("repr")
    if kind == "str": raise Silent()
    if kind == "depth": recurse(0)
    if kind == "exit": raise SystemExit(3)
    if kind == "stop": raise StopIteration("stop")
    if kind == "group": raise ExceptionGroup("both", [OddError(1, detail="a"), KeyError("b")])

KINDS = ["constructor", "lock", "c", "huge", "recursive", "repr", "str", "depth", "exit", "group"]
"""


def test_every_odd_failure_arrives_with_a_bounded_record_and_can_be_debugged() -> None:
    """Within seconds, at most 1 MB each, with the local of the failing frame."""
    with Kernel.start() as nb:
        nb.run(DEFINE).ok()
        cell = nb.run(
            "found = await asyncio.gather(*(odd(kind) for kind in KINDS), return_exceptions=True)", timeout=40
        ).ok()
        named = nb.run("print(*(type(each).__name__ for each in found))").ok().stdout.split()
        sizes = (
            nb.run(
                "print(max(len(a.error.record) for a in flyte.last_run().actions[1:]), "
                "sum(a.phase == 'failed' for a in flyte.last_run().actions[1:]))"
            )
            .ok()
            .stdout.split()
        )

        assert 10 == len(named)
        assert all(name.startswith("Runtime") for name in named), named
        assert "True" == nb.run("isinstance(found[0], OddError) and found[0].code_of_mine == 7").ok().result
        assert "True" == nb.run("isinstance(found[2], json.JSONDecodeError) and found[2].pos == 1").ok().result
        assert int(sizes[0]) <= 1_000_000
        assert "10" == sizes[1]
        assert cell.status == "ok"
        for number, kind in enumerate(["constructor", "lock", "c", "huge", "recursive", "repr", "str"], 1):
            shown = (
                nb.run(f"%flyte debug a{number}", inputs=["up" if kind == "c" else "p 0", "p 'kind', mine", "q"])
                .ok()
                .stdout
            )
            assert f"('kind', '{kind}')" in shown or kind == "c", shown
