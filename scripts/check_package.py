"""Install the wheel without an index, with the lowest and newest dependencies, and use it: `make package`. Runs in: a script.

For each of the two, what `pip install flyte_nb` needs is fetched into a folder; then an environment that knows this folder
and nothing else gets it, and outside of the checkout it is imported, runs a script with maps, and is loaded in a kernel; with
the newest, the extra `pandas`, too. The lowest are the bounds of `dependencies` in pyproject.toml; what these need is as new as
it can be. Needs a network for pip.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds that any one command may take: far more than it does.
WITHIN = 300

SCRIPT = """
import flyte_nb as flyte

env = flyte.TaskEnvironment("package")

@env.task
def double(x: int) -> int:
    return 2 * x

@env.task
async def total(n: int) -> int:
    return sum([value async for value in flyte.map.aio(double, range(n))])

flyte.init(n_workers=2)
found = flyte.run(total, 40).outputs()[0], sum(flyte.map(double, range(300)))
assert found == (1560, 89700), found
"""

#: With the extra `pandas`: frames by reference are Parquet, and a run is a table of Arrow.
FRAMES = """
import flyte_nb as flyte
import pandas as pd

env = flyte.TaskEnvironment("frames")

@env.task
async def table(n: int) -> flyte.io.DataFrame:
    return flyte.io.DataFrame.from_df(pd.DataFrame({"x": range(n), "s": ["a"] * n}))

@env.task
async def total(n: int) -> int:
    made = await table(n)
    assert made.uri.endswith(".parquet"), made
    return int((await made.open(pd.DataFrame).all()).x.sum())

run = flyte.run(total, 5)
assert run.outputs()[0] == 10
assert run.to_arrow(task="table").column("n").to_pylist() == [5]
"""

TASK = """
import asyncio, flyte_nb as flyte
env = flyte.TaskEnvironment("kernel")

@env.task
async def half(x: str) -> float:
    return float(x) / 2
"""

#: What is typed into cells of a kernel, and what each shows.
CELLS = (
    ("%load_ext flyte_nb", ""),
    (TASK, ""),
    ("await asyncio.gather(*(half(str(i)) for i in range(4)))", "[0.0, 0.5, 1.0, 1.5]"),
    ("await half('x')", "could not convert string to float: 'x'"),
    ("list(flyte.map(half, ['1', '2']))", "[0.5, 1.0]"),
    ("%flyte report", "ipykernel"),
)

KERNEL = f"""
from jupyter_client.manager import start_new_kernel

def shown(message):
    content = message["content"]
    said.append(content.get("text") or content.get("evalue") or content.get("data", {{}}).get("text/plain", ""))

manager, client = start_new_kernel(kernel_name="python3")
try:
    for code, wanted in {CELLS!r}:
        said = []
        reply = client.execute_interactive(code, timeout=60, output_hook=shown)["content"]
        assert wanted in "\\n".join(said), (code, said, reply)
        assert reply["status"] == ("error" if "could not" in wanted else "ok"), (code, said)
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""

VERSIONS = """
import importlib.metadata as m, os, sys, flyte_nb
assert flyte_nb.__file__.startswith(sys.prefix + os.sep), flyte_nb.__file__
names = "dask distributed ipykernel ipython anywidget ipywidgets cloudpickle cryptography fsspec psutil rich".split()
print(f"Python {sys.version.split()[0]},", ", ".join(f"{name} {m.version(name)}" for name in names))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command printed; where it fails, that is shown, and the check ends."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(str(part) for part in command)[:300]}\nended with {done.returncode}:\n{done.stdout[-6000:]}"
        )
    return done.stdout


def lowest() -> list[str]:
    """The dependencies at their lower bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [dependency.replace(">=", "==") for dependency in project["dependencies"]]


def check(wheel: Path, home: Path, interpreter: str, pins: list[str]) -> None:
    """Fetch, install without an index, use."""
    house, venv = home / "wheels", home / "venv"
    began = time.monotonic()
    run(interpreter, "-m", "venv", "--without-pip", venv, cwd=home)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "wheel", "--quiet", "--wheel-dir", house, wheel, *pins, cwd=home)
    fetched = time.monotonic()
    offline = ("--no-index", "--find-links", house)
    # No setting of this machine says where else wheels are.
    plain = {name: "" for name in os.environ if name.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    run(*pip, "install", "--quiet", *offline, "flyte_nb", *pins, cwd=home, **plain)
    run(*pip, "check", cwd=home)
    installed = time.monotonic()
    versions = run(python, "-c", VERSIONS, cwd=home).strip()
    (home / "script.py").write_text(SCRIPT, encoding="utf-8")
    quiet = {"FLYTE_NB_HISTORY": "off", "JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(home / "ipython")}
    run(python, "script.py", cwd=home, **quiet)
    run(python, "-c", KERNEL, cwd=home, **quiet)
    if not pins:
        run(*pip, "wheel", "--quiet", "--wheel-dir", house, f"{wheel}[pandas]", cwd=home)
        run(*pip, "install", "--quiet", *offline, "flyte_nb[pandas]", cwd=home, **plain)
        (home / "frames.py").write_text(FRAMES, encoding="utf-8")
        run(python, "frames.py", cwd=home, **quiet)
    sizes = [file.stat().st_size for file in house.iterdir()]
    print(
        f"{home.name}: {versions}\n  {len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB, fetched in {fetched - began:.0f} s, "
        f"installed without an index in {installed - fetched:.0f} s, used in {time.monotonic() - installed:.0f} s: ok",
        flush=True,
    )


def main() -> None:
    """Build the wheel, and check it with the newest and with the lowest dependencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the interpreter to install for")
    parser.add_argument("only", nargs="*", choices=["newest", "lowest", []], help="one of the two; else both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ".")
        run(*build, cwd=ROOT)
        (wheel,) = Path(folder).glob("*.whl")
        for name in options.only or ("newest", "lowest"):
            home = Path(folder) / name
            home.mkdir()
            check(wheel, home, options.python, lowest() if name == "lowest" else [])


if __name__ == "__main__":
    main()
