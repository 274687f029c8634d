"""What runs out, never ends or is destroyed, in the long form: a sentence, at most one action lost, and the next cell is right.

    python -m bench.chaos.exhaustion [part ...]

Parts: texts, damage, maps, descriptors, processes, memory, disk. Those that need a file system of their own, or another user, say
so where there can be none. Prints ``name | figure | bound | ok`` and exits 0, or 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.chaos._rows import row, status
from tests.kernel.kernelclient import Execution, Kernel

DEFINE = """
%load_ext flyte_nb
import asyncio, itertools, os, resource, socket, sys
import numpy as np
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def ok(i: int) -> int: return i + 1

@env.task
def make(mb: int) -> np.ndarray: return np.ones(mb * 131_072)

@env.task
def total(a: np.ndarray) -> float: return float(a[0] + a[-1])

@env.task
async def say(n: int, size: int) -> int:
    for i in range(n): print("y" * size)
    return n

class Odd(Exception):
    def __str__(self):
        while True: pass
"""
NEXT = "assert await asyncio.gather(*(ok(i) for i in range(20))) == list(range(1, 21))"
KILL = "import psutil\n[p.kill() for p in psutil.Process().children(recursive=True) if 'spawn_main' in ' '.join(p.cmdline())]\nprint(await ok(1))"
#: Seconds that a case may take, and the cell after it.
CASE_S, NEXT_S = 60.0, 30.0


def case(kernel: Kernel, name: str, code: str, wanted: str = "", within: float = CASE_S) -> Execution | None:
    """Run a cell that must end as wanted (words of its error; "" for none), and one after it that must be right."""
    cell = kernel.begin(code)
    try:
        cell.wait(within)
    except Exception:  # it did not end
        kernel.interrupt()
        cell.wait(20)
        row(name, f"no end within {within:.0f} s", wanted or "no error", False)
        return None
    said = cell.error.value.replace("\n", " ")[:90]
    good = (wanted in cell.error.value or wanted in cell.error.traceback) if wanted else cell.status == "ok"
    after = kernel.begin(NEXT)
    try:
        after.wait(NEXT_S)
    except Exception:
        kernel.interrupt()
    figure = f"{cell.seconds:.1f} s{', ' + said if said else ''}; next cell {after.status}"
    row(name, figure, wanted or "no error", good and after.status == "ok")
    return cell


def body(code: str, kind: str = "async def") -> str:
    """A cell that defines a task with this body, and awaits it."""
    lines = "\n".join("    " + line for line in code.split("\n"))
    return f"@env.task\n{kind} deed() -> object:\n{lines}\nawait deed{'' if kind == 'async def' else '.aio'}()"


def indent(code: str) -> str:
    """Code inside a block."""
    return "\n".join("    " + line for line in code.split("\n"))


def texts(kernel: Kernel) -> None:
    """Texts and values without end."""
    case(kernel, "a str() that never ends", body("raise Odd(1)"), "did not end within 1 s", 20)
    never = "class R:\n    def __repr__(self):\n        while True: pass\n"
    case(kernel, "a local whose repr never ends", body(f"{never}x = R(); raise ValueError('mine')"), "mine", 20)
    case(kernel, "a local of 1 GB", body("a = np.ones(131_072 * 1024); raise ValueError('mine')"), "mine", 40)
    case(kernel, "a line of 50 MB", body("print('x' * 50_000_000); return 1"))
    case(
        kernel,
        "a report of 50 MB",
        body("flyte.report.log('x' * 50_000_000); return 1").replace("task", "task(report=True)", 1),
    )
    case(kernel, "a message of 50 MB", body("raise ValueError('x' * 50_000_000)"), "xxx")
    case(kernel, "a name of 100,000 letters", "ok.override(short_name='A' * 100_000)", "has 100,000 characters")


def damage(kernel: Kernel) -> None:
    """A worker's process is destroyed."""
    ended = "its worker ended itself"
    gone = "for n in [n for n in sys.modules if n.startswith('flyte_nb')]: del sys.modules[n]\n"
    case(kernel, "our modules removed, then a result", body(gone + "return 1"), ended)
    case(kernel, "our modules removed, then an error", body(gone + "raise ValueError(1)"), ended)
    case(kernel, "all modules removed", body("sys.modules.clear()\nreturn 1"), ended)
    case(kernel, "pickle broken", body("import pickle\npickle.dumps = None\nreturn 1"), ended)
    case(kernel, "time broken", body("import time\ntime.time = time.monotonic = None\nreturn 1"), ended)
    case(kernel, "os.fork returns from a body", body("os.fork()\nreturn 7") + " == 7 or 1 / 0")
    case(kernel, "os.fork returns from a sync body", body("os.fork()\nreturn 7", "def") + " == 7 or 1 / 0")
    leave = "def leave(): raise SystemExit(3)\n"
    callback = "asyncio.get_running_loop().call_soon(leave)\nawait asyncio.sleep(0.1)\nreturn 1"
    case(kernel, "SystemExit in a callback, caught", leave + f"try:\n{indent(body(callback))}\nexcept Exception: pass")


def maps(kernel: Kernel) -> None:
    """Inputs without end."""
    head = "import psutil; before = psutil.Process().memory_info().rss\nn = 0\n"
    tail = "    n += 1\n    if n >= 20_000: break\nassert psutil.Process().memory_info().rss - before < 150e6"
    case(kernel, "map over an endless generator", f"{head}for v in flyte.map(ok, itertools.count()):\n{tail}")
    slow = "import time\ndef g():\n    for i in itertools.count():\n        time.sleep(0.05)\n        yield i\n"
    case(
        kernel,
        "map over a slow endless generator",
        f"{slow}n = 0\nfor v in flyte.map(ok, g()):\n    n += 1\n    if n >= 20: break",
    )


def descriptors(kernel: Kernel) -> None:
    """256 descriptors."""
    kernel.run("resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))").ok()
    case(kernel, "256 descriptors: 2,000 actions", "await asyncio.gather(*(ok(i) for i in range(2000))); None")
    kept = "v = await asyncio.gather(*(make.aio(9) for _ in range(100))); assert sum(x[0] for x in v) == 100"
    case(kernel, "256 descriptors: 100 arrays of 9 MB kept", kept)
    case(kernel, "256 descriptors: all workers killed", KILL)
    none = "h = []\ntry:\n    while True: h.append(socket.socket())\nexcept OSError: pass\n"
    none += (
        "r = await asyncio.gather(*(ok(i) for i in range(50)), return_exceptions=True)\n[x.close() for x in h]; None"
    )
    case(kernel, "no descriptor is free", none)


def shared_memory(kernel: Kernel) -> None:
    """/dev/shm is small."""
    calls = "*(total.aio(a) for _ in range(6)), *(make.aio(64) for _ in range(3))"
    case(
        kernel,
        "/dev/shm of 4 MB: values of 64 MB",
        f"a = np.ones(64 * 131_072); r = await asyncio.gather({calls}); del r, a",
    )
    case(kernel, "/dev/shm of 4 MB: 100 of 1 MB", "r = await asyncio.gather(*(make.aio(1) for _ in range(100))); del r")


def disk(kernel: Kernel) -> None:
    """TMPDIR, the cache and logs are on a disk of 12 MB, which fills."""
    cached = "@env.task(cache='auto')\nasync def c(i: int) -> bytes: return os.urandom(1_000_000)\n"
    case(
        kernel,
        "disk of 12 MB: 20 cached results of 1 MB",
        cached + "r = await asyncio.gather(*(c(i) for i in range(20)))",
    )
    case(kernel, "disk of 12 MB: logs of 40 MB", "await asyncio.gather(*(say(200_000, 100) for _ in range(2)))")
    fill = "import tempfile\npath = tempfile.gettempdir() + '/fill'\nf = open(path, 'wb')\ntry:\n"
    kernel.run(f"{fill}    while True: f.write(b'x' * 4096); f.flush()\nexcept OSError: pass")
    case(kernel, "full disk: logs", "await say(5000, 100)")
    case(kernel, "full disk: cached results", "r = await asyncio.gather(*(c(i) for i in range(100, 105)))")
    case(kernel, "full disk: a failure", body("raise ValueError('mine')"), "mine")
    case(kernel, "full disk: all workers killed", KILL)
    kernel.run("os.unlink(path)")
    case(kernel, "the disk has room again", "await say(500, 100)")


def processes() -> None:
    """Another user, who may have few processes and threads."""
    readable = all(path.stat().st_mode & 0o001 for path in Path(sys.executable).resolve().parents)
    if os.getuid() != 0 or not readable:
        row(
            "few processes and threads",
            "not tried: it takes root, and a Python that another user may run",
            "a sentence",
            True,
        )
        return
    home = tempfile.mkdtemp()
    Path(home).chmod(0o777)
    user = f"import os, resource; os.environ['HOME'] = {home!r}; os.setgid(65534); os.setuid(65534)"
    with Kernel.start() as kernel:
        kernel.run(f"{user}; resource.setrlimit(resource.RLIMIT_NPROC, (25, 25))")
        cell = kernel.run(DEFINE + "await ok(1)")
        said = cell.error.value
        row(
            "25 processes and threads",
            said[:120],
            "works, or names ulimit -u",
            cell.status == "ok" or "ulimit -u" in said,
        )


#: By name: what is done, and the file system of its own that it needs (where, MB).
PARTS: dict[str, tuple[Callable[[Kernel], None], str, int]] = {
    "texts": (texts, "", 0), "damage": (damage, "", 0), "maps": (maps, "", 0), "descriptors": (descriptors, "", 0),
    "memory": (shared_memory, "/dev/shm", 4), "disk": (disk, "TMPDIR", 12),
}  # fmt: skip


def in_small(part: str, where: str, size: int) -> None:
    """Run a part in a mount namespace of its own, in which a folder is a small file system."""
    folder = tempfile.mkdtemp() if where == "TMPDIR" else where
    own = f"mount -t tmpfs -o size={size}m tmpfs {folder} && exec {sys.executable} -m bench.chaos.exhaustion --inside {part} {folder}"
    command = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c", own]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as exc:
        row(part, f"not tried: {exc}"[:120], "", isinstance(exc, FileNotFoundError))
        return
    rows = [line for line in done.stdout.splitlines() if line.count(" | ") == 3]
    if not rows:
        row(part, f"not tried: {(done.stderr or 'no answer').strip()[-120:]}", "", "permitted" in done.stderr)
    for line in rows:
        name, figure, bound, ok = line.split(" | ")
        row(name, figure, bound, ok == "ok")


def run(part: str, folder: str = "") -> None:
    """Run a part in a kernel of its own."""
    work, where, _ = PARTS[part]
    env = {"TMPDIR": folder, "FLYTE_NB_CACHE_DIR": f"{folder}/cache"} if where == "TMPDIR" else {}
    with Kernel.start(env=env) as kernel:
        kernel.run(DEFINE).ok()
        kernel.run(NEXT).ok()
        work(kernel)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--inside"]:
        run(given[1], given[2])
        return status()
    for part in given or [*PARTS, "processes"]:
        if part == "processes":
            processes()
        elif PARTS[part][1]:
            in_small(part, *PARTS[part][1:])
        else:
            run(part)
    return status()


if __name__ == "__main__":
    sys.exit(main())
