"""What cells set up holds in the tasks that they call, and ``%%flyte everywhere``."""

from __future__ import annotations

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = pytest.mark.kernel

DEFINE = """
%load_ext flyte_nb
import decimal, logging, os, sys, warnings
import flyte_nb as flyte
import numpy as np
import pandas as pd
flyte.init(n_workers=1)
env = flyte.TaskEnvironment("around")
log = logging.getLogger("mine")

@env.task
async def look(what: str) -> str:
    names = dict(decimal=decimal, logging=logging, os=os, sys=sys, warnings=warnings, np=np, pd=pd, log=log)
    return repr(eval(what, names))

@env.task
async def info() -> None:
    log.info("from the task")

await look("1")
"""

#: What a cell does before a call, an expression that a task evaluates, and what it gives.
CELLS = {
    "os.chdir('/')": ("os.getcwd()", "'/'"),
    "os.environ['MY_API_KEY'] = 'k'": ("os.environ.get('MY_API_KEY')", "'k'"),
    "del os.environ['MY_API_KEY']": ("os.environ.get('MY_API_KEY')", "None"),
    "sys.path.append('/a/folder')": ("sys.path[-1] == '/a/folder' or '/a/folder' in sys.path", "True"),
    "warnings.filterwarnings('ignore', message='of this')": ("'of this' in str(warnings.filters)", "True"),
    "decimal.getcontext().prec = 40": ("decimal.getcontext().prec", "40"),
    "_ = np.seterr(divide='raise')": ("np.geterr()['divide']", "'raise'"),
    "np.set_printoptions(precision=2)": ("np.get_printoptions()['precision']", "2"),
    "pd.set_option('display.max_rows', 7)": ("pd.get_option('display.max_rows')", "7"),
    "pd.reset_option('display.max_rows')": ("pd.get_option('display.max_rows')", "60"),
    "logging.getLogger('mine').setLevel(11)": ("log.level", "11"),
    "sys.setrecursionlimit(4321)": ("sys.getrecursionlimit()", "4321"),
    "import sklearn; sklearn.set_config(transform_output='pandas')": (
        "__import__('sklearn').get_config()['transform_output']",
        "'pandas'",
    ),
    "import matplotlib.pyplot as plt; plt.rcParams['lines.linewidth'] = 7": (
        "__import__('matplotlib').rcParams['lines.linewidth']",
        "7.0",
    ),
    "logging.addLevelName(25, 'NOTICE')": ("logging.getLevelName(25)", "'NOTICE'"),
    "del logging._levelToName[25], logging._nameToLevel['NOTICE']": ("logging.getLevelName(25)", "'Level 25'"),
    "logging.disable(5)": ("logging.root.manager.disable", "5"),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("where", ["before", "same"])
def test_what_a_cell_sets_up_holds(nb: Kernel, cell: str, where: str) -> None:
    """In the tasks of later cells, and of the same one."""
    what, expected = CELLS[cell]
    call = f"found = await look({what!r}); print('found', found)"

    if where == "before":
        nb.run(cell).ok()
        done = nb.run(call).ok()
    else:
        done = nb.run(f"await look('1')\n{cell}\n{call}").ok()

    assert f"found {expected}" in done.stdout


def test_the_notebooks_levels_hold(nb: Kernel) -> None:
    """``basicConfig`` in a cell; the line says its level."""
    nb.run(
        "logging.getLogger('mine').setLevel(0); logging.disable(0); logging.basicConfig(level=logging.INFO, force=True)"
    ).ok()
    nb.run("await info()").ok()

    assert "INFO mine: from the task" in nb.run("%flyte logs a1").ok().stdout


EVERYWHERE = """%%flyte everywhere
import builtins, os
builtins.prepared = os.getpid()
os.environ["PREPARED"] = "1"
print("prepared")
"""


def test_a_cell_runs_everywhere(nb: Kernel) -> None:
    """Here and on every worker; what it prints there is shown with the worker's name."""
    done = nb.run(EVERYWHERE).ok()

    assert "] prepared" in done.stdout
    assert "Run on 1 worker;" in done.stdout
    assert "True" in str(nb.run("import builtins; builtins.prepared == os.getpid()").ok().result)
    checked = nb.run(
        'print(await look(\'(__import__("builtins").prepared == os.getpid(), os.environ["PREPARED"])\'))'
    ).ok()
    assert "(True, '1')" in checked.stdout


def test_a_worker_that_comes_later_runs_it_too(nb: Kernel) -> None:
    """Before its first action."""
    nb.run("%%flyte everywhere\nimport builtins\nbuiltins.late = True").ok()
    nb.run(
        "@env.task(retries=0)\nasync def die() -> int:\n    os._exit(3)\n"
        "try:\n    await die()\nexcept flyte.errors.WorkerLostError:\n    pass\n"
    ).ok()

    assert "True" in nb.run("print(await look('__import__(\"builtins\").late'))").ok().stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('there')", "ValueError: there"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import asyncio\nawait asyncio.sleep(0)\n1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_fails_on_a_worker_is_said_with_its_name(nb: Kernel, body: str, said: str) -> None:
    """The cell then runs here all the same."""
    guarded = "if __name__ == '__everywhere__':\n" + "\n".join(f"    {line}" for line in body.splitlines())
    done = nb.run(f"%%flyte everywhere\n{guarded}\nprint('here')").ok()

    assert "] failed:" in done.stdout
    assert said in done.stdout
    assert "failed on 1" in done.stdout
    assert done.stdout.endswith("here\n")


def test_without_a_cell_it_says_what_to_do(nb: Kernel) -> None:
    """As a line magic, or alone."""
    assert "first line of a cell" in nb.run("%flyte everywhere").ok().stdout
    assert "first line of a cell" in nb.run("%%flyte everywhere\n").ok().stdout


def test_threads_of_a_cell_call_tasks_of_its_run(nb: Kernel) -> None:
    """As they always did."""
    done = nb.run(
        "from concurrent.futures import ThreadPoolExecutor\n@env.task\ndef twice(i: int) -> int:\n    return 2 * i\n"
        "with ThreadPoolExecutor(2) as pool:\n    print(list(pool.map(twice, range(3))))"
    ).ok()

    assert "[0, 2, 4]" in done.stdout
    assert "4 actions" in nb.run("%flyte status").ok().stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_task_are_given_what_the_notebook_defines(nb: Kernel, method: str) -> None:
    """Functions, and instances of its classes, there and back."""
    done = nb.run(
        "class Item:\n    def __init__(self, n):\n        self.n = n\n"
        "    class Inner:\n        n = 4\n"
        "def double(item):\n    return Item(item.n * 2)\n"
        "@env.task\nasync def compute() -> list:\n"
        "    import concurrent.futures, multiprocessing\n"
        f"    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context({method!r})) as pool:\n"
        "        found = list(pool.map(double, [Item(1), Item.Inner()], timeout=30))\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "        found += pool.map(double, [Item(3)])\n"
        "    return [(item.n, isinstance(item, Item)) for item in found]\n"
        "await compute()"
    ).ok()

    assert "[(2, True), (8, True), (6, True)]" == done.result


def test_pools_of_joblib_are_given_what_the_notebook_defines(nb: Kernel) -> None:
    """Whichever way they pickle it."""
    done = nb.run(
        "class Item:\n    def __init__(self, n):\n        self.n = n\n"
        "def double(item):\n    return Item(item.n * 2)\n"
        "@env.task\ndef compute(backend: str) -> list:\n"
        "    from joblib import Parallel, delayed\n"
        "    found = Parallel(n_jobs=2, backend=backend)(delayed(double)(Item(i)) for i in range(3))\n"
        "    return [(item.n, isinstance(item, Item)) for item in found]\n"
        "{await compute(each) == [(0, True), (2, True), (4, True)] for each in ('loky', 'multiprocessing', 'threading')}"
    ).ok()

    assert "{True}" == done.result


DRAW = """rng = np.random.default_rng(0)
@env.task
async def draw(i: int) -> float:
    return float(rng.random())
"""
#: What a cell defines, what it calls, and what is said of that.
NOTICED = {
    "drawn": (
        DRAW,
        "[await draw(i) for i in range(3)]",
        "drew the same random numbers",
    ),
    "drawn by rows": (
        DRAW,
        "await asyncio.gather(*(draw(i) for i in range(300)))",
        "drew the same random numbers",
    ),
    "waits for a GPU": (
        """from datetime import timedelta
gpus = flyte.TaskEnvironment("on_gpu", resources=flyte.Resources(gpu=1))
@gpus.task(timeout=flyte.Timeout(max_queued_time=timedelta(seconds=1)))
async def gpu() -> int:
    return 1
""",
        "await asyncio.gather(gpu(), return_exceptions=True)",
        "waits for a GPU",
    ),
}


@pytest.mark.parametrize("what", NOTICED)
@pytest.mark.parametrize("how", ["at once", "after"])
def test_what_other_threads_say_of_a_run_appears_under_its_cell(nb: Kernel, what: str, how: str) -> None:
    """Once, and neither under the cell that loaded the extension, nor under the one that executes now."""
    define, calls, said = NOTICED[what]
    nb.run(f"from flyte_nb.core.settings import notices\nnotices._logged.clear()\nimport asyncio\n{define}").ok()
    before = set(nb.executions)
    if how == "at once":
        first = nb.run(
            f"gate = asyncio.Event()\nasync def later():\n    await look('1')\n    await gate.wait()\n    return {calls}\n"
            "background = asyncio.create_task(later())"
        ).ok()
        nb.run("gate.set()\nawait look('2')\n_ = await background").ok()
    else:
        first = nb.run(f"_ = {calls}").ok()
    first.wait_for(lambda: said in first.stderr)
    nb.run("await look('3')").ok()

    assert [(first, 1)] == [
        (cell, cell.stderr.count(said)) for cell in nb.executions if said in cell.stderr and cell not in before
    ]


def test_nothing_is_printed_raw(nb: Kernel) -> None:
    """What a subprocess of a task prints goes to its log."""
    done = nb.run(
        "@env.task\nasync def echo() -> None:\n    import subprocess\n    subprocess.run(['echo', 'from a subprocess'], check=True)\n"
        "await echo()"
    ).ok()

    assert "from a subprocess" not in done.stdout + done.stderr
    assert "from a subprocess" in nb.run("%flyte logs a1").ok().stdout
