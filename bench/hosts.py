"""Four hosts on one machine: kernel, scheduler and two workers, each in a network namespace with its own /dev/shm.

Needs Linux and root. What unit tests cannot have: workers that share no memory with the kernel, that the kernel has no route to
(packets dropped or refused), or of which it reaches only one.

    python -m bench.hosts [open] [drop] [reject] [one]        (make test-hosts)
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: Addresses by host: kernel, scheduler, workers.
HOSTS = {"k": "10.99.0.4", "s": "10.99.0.1", "a": "10.99.0.2", "b": "10.99.0.3"}
SCHEDULER = f"tcp://{HOSTS['s']}:8786"
#: What is cut off from the kernel, and how, by name of the case.
CASES = {"open": ((), ""), "drop": ("ab", "blackhole"), "reject": ("ab", "unreachable"), "one": ("b", "blackhole")}

#: What the kernel's host runs; it ends with a line of claims.
PROGRAM = """
import asyncio, sys, time
import numpy as np
import flyte_nb as flyte
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.session import Session
from flyte_nb.testing import run_cell
env = flyte.TaskEnvironment("hosts")

@env.task
async def square(x: int) -> int:
    return x * x

@env.task
async def total(n: int) -> int:
    return sum(await asyncio.gather(*(square(i) for i in range(n))))

@env.task
async def mean(a: np.ndarray) -> float:
    return float(a.mean())

@env.task
async def make(mb: int) -> np.ndarray:
    return np.ones(mb * 131072)

@env.task
async def through(mb: int) -> float:
    return await mean(await make(mb))

async def work():
    started = time.perf_counter()
    assert await asyncio.gather(*(square(i) for i in range(1000))) == [i * i for i in range(1000)]
    assert await asyncio.gather(*(total(20) for _ in range(20))) == [2470] * 20
    large = np.arange(8 * 131072, dtype=float)
    assert await asyncio.gather(*(mean(large) for _ in range(10))) == [large.mean()] * 10
    assert (await make(64)).sum() == 64 * 131072
    assert await asyncio.gather(*(through(32) for _ in range(4))) == [1.0] * 4
    return time.perf_counter() - started

if __name__ == "__main__":
    started = time.perf_counter()
    flyte.init(sys.argv[1])
    attached = time.perf_counter() - started
    took = run_cell(work)
    text = cluster_text(Session.current)
    print(f"CLAIMS attached in {attached:.1f} s, everything right in {took:.1f} s;", " ".join(text.splitlines()[1:2]).strip())
    flyte.shutdown()
"""


def sh(command: str, *, check: bool = True) -> None:
    """Run a shell command."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")


def down() -> None:
    """Remove the namespaces."""
    for host in (*HOSTS, "net"):
        sh(f"ip netns del flyte-{host}", check=False)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Hosts on a bridge."""
    down()
    net = "ip netns exec flyte-net ip link"
    try:
        sh(f"ip netns add flyte-net && {net} add br0 type bridge && {net} set br0 up")
        for host, address in HOSTS.items():
            own = f"ip netns exec flyte-{host} ip"
            sh(f"ip netns add flyte-{host} && ip link add fv{host} type veth peer name fp{host}")
            sh(f"ip link set fv{host} netns flyte-{host} && ip link set fp{host} netns flyte-net")
            sh(f"{net} set fp{host} master br0 up && {own} addr add {address}/24 dev fv{host}")
            sh(f"{own} link set fv{host} up && {own} link set lo up")
        yield
    finally:
        down()


def on(host: str, *words: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process on a host, where /dev/shm and its folder are its own."""
    private = 'mount -t tmpfs -o size=3g none /dev/shm && mkdir -p $0 && mount -t tmpfs none $0 && cd $0 && exec "$@"'
    return subprocess.Popen(
        ["ip", "netns", "exec", f"flyte-{host}", "unshare", "-m", "--propagation", "private", "sh", "-c", private,
         str(folder / host), *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def run(case: str) -> bool:
    """One case; prints what the kernel says, and returns whether all of it held."""
    folder, processes = Path(tempfile.mkdtemp()), []
    cut, how = CASES[case]
    with network():
        try:
            dask = (sys.executable, "-m", "dask")
            common = ("--no-dashboard", "--host")
            processes.append(on("s", *dask, "scheduler", "--port", "8786", *common, HOSTS["s"], folder=folder))
            processes += [
                on(host, *dask, "worker", SCHEDULER, "--nthreads", "2", *common, HOSTS[host], folder=folder)
                for host in "ab"
            ]
            for host in cut:
                # Nothing comes back from there; or the kernel's own system knows no way.
                where, to = ("k", HOSTS[host]) if how == "unreachable" else (host, HOSTS["k"])
                sh(f"ip netns exec flyte-{where} ip route add {how} {to}")
            time.sleep(8)
            program = folder / "program.py"
            program.write_text(PROGRAM)
            kernel = subprocess.run(
                ["ip", "netns", "exec", "flyte-k", sys.executable, str(program), SCHEDULER],
                capture_output=True, text=True, timeout=240, check=False, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
            )  # fmt: skip
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(20)
    claims = [line for line in kernel.stdout.splitlines() if line.startswith("CLAIMS")]
    print(f"{case:8} {claims[0][7:] if claims else 'FAILED: ' + kernel.stderr[-600:]}", flush=True)
    through_scheduler = bool(claims) and "links through the scheduler" in claims[0]
    return bool(claims) and through_scheduler == bool(cut)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("bench.hosts makes network namespaces: run it as root, on Linux.")
    held = [run(case) for case in sys.argv[1:] or CASES]
    sys.exit(0 if all(held) else 1)
