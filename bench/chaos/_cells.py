"""What the kernels that are attacked have defined. Runs in: the command line."""

from __future__ import annotations

#: The first cell: two tasks that take their time, one without and one with computing.
BEGIN = """
%load_ext flyte_nb
import asyncio, os, subprocess, time
import flyte_nb as flyte
env = flyte.TaskEnvironment("chaos")
@env.task
async def nap(s: float) -> float:
    await asyncio.sleep(s); return s
@env.task
def spin(s: float) -> float:
    t = time.perf_counter() + s
    while time.perf_counter() < t: pass
    return s
"""
