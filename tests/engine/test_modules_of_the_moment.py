"""Modules that a body imports, and tasks of edited modules: the code of now runs, wherever this process finds it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.testing import run_cell
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("modules")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Started before any of the modules is there."""
    with started(n_workers=1):
        yield


class Folder:
    """Files of modules, and how this process comes to find them."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.patch = monkeypatch
        self._time = 1_700_000_000

    def write(self, name: str, text: str) -> Path:
        """Write a module; each time seconds later than before."""
        file = self.path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
        self._time += 10
        os.utime(file, (self._time, self._time))
        return file

    def on_path(self) -> None:
        """As a program does that extends ``sys.path``."""
        self.patch.syspath_prepend(self.path)

    def here(self) -> None:
        """As a program does that changes the working directory, which it finds modules in."""
        self.patch.syspath_prepend("")
        self.patch.chdir(self.path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """Empty."""
    before = set(sys.modules)
    yield Folder(tmp_path, monkeypatch)
    for name in set(sys.modules) - before:
        if name.startswith("moment_"):
            del sys.modules[name]


def call(task: Any, *args: Any) -> Any:
    """One call in a cell."""

    async def cell() -> Any:
        return await task.aio(*args)

    return run_cell(cell)


@env.task
def plain() -> Any:
    """A module of one file."""
    import moment_plain  # type: ignore[import-not-found]

    return moment_plain.V


@env.task
def inner() -> Any:
    """A module in a package."""
    import moment_package.inner  # type: ignore[import-not-found]

    return moment_package.inner.V


@env.task
def named() -> Any:
    """A module that a package is asked for by name."""
    from moment_package import inner

    return inner.V


@env.task
def value() -> Any:
    """A value of a module."""
    from moment_plain import V

    return V


@env.task
def nested() -> Any:
    """In a function of the body."""

    def get() -> Any:
        import moment_plain

        return moment_plain.V

    return get()


def helper() -> Any:
    """Of the task below."""
    import moment_plain

    return moment_plain.V


@env.task
def by_helper() -> Any:
    """In a function that the body calls."""
    return helper()


@env.task
async def by_child() -> Any:
    """In a task that the body calls."""
    return await plain.aio()


@env.task
def optional() -> Any:
    """A module that need not be there."""
    try:
        import moment_plain
    except ImportError:
        return None
    return moment_plain.V


def one_file(folder: Folder, n: int) -> None:
    """A module with this value."""
    folder.write("moment_plain.py", f"V = {n}")


def in_a_package(folder: Folder, n: int) -> None:
    """The same in a package."""
    folder.write("moment_package/__init__.py", "")
    folder.write("moment_package/inner.py", f"V = {n}")


LAYOUTS: dict[str, tuple[Any, Callable[[Folder, int], object]]] = {
    "a module": (plain, one_file),
    "a value of it": (value, one_file),
    "in a nested function": (nested, one_file),
    "in a helper": (by_helper, one_file),
    "in a child": (by_child, one_file),
    "a package": (plain, lambda f, n: f.write("moment_plain/__init__.py", f"V = {n}")),
    "a package's module": (inner, in_a_package),
    "a package's module, by name": (named, in_a_package),
    "a folder without __init__": (inner, lambda f, n: f.write("moment_package/inner.py", f"V = {n}")),
    "a module's module": (
        plain,
        lambda f, n: (
            f.write("moment_plain.py", "from moment_below import V"),
            f.write("moment_below.py", f"V = {n}"),
        ),
    ),
    "a package's relative import": (
        plain,
        lambda f, n: (
            f.write("moment_plain/__init__.py", "from .below import V"),
            f.write("moment_plain/below.py", f"V = {n}"),
        ),
    ),
    "a module with a lock": (
        plain,
        lambda f, n: f.write("moment_plain.py", f"import threading\nLOCK = threading.Lock()\nV = {n}"),
    ),
    "a module that cannot be pickled": (
        plain,
        lambda f, n: f.write("moment_plain.py", f"import sqlite3\nBASE = sqlite3.connect(':memory:')\nV = {n}"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["on sys.path", "in the working directory"])
def test_a_module_that_only_the_body_imports(folder: Folder, layout: str, way: str) -> None:
    """It is not loaded here: found, and found anew when its file was edited."""
    task, write = LAYOUTS[layout]
    write(folder, 1)
    folder.on_path() if way == "on sys.path" else folder.here()
    assert 1 == call(task)
    write(folder, 2222)
    assert 2222 == call(task)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_that_is_loaded_and_read_again(folder: Folder, layout: str) -> None:
    """Here and there it is what `importlib.reload` made of it."""
    task, write = LAYOUTS[layout]
    write(folder, 1)
    folder.on_path()
    importlib.invalidate_caches()
    task.func() if task is not by_child else plain.func()
    assert 1 == call(task)
    write(folder, 2222)
    for name in sorted(
        (n for n in sys.modules if n.startswith("moment_")), key=lambda n: -n.count(".") - ("below" in n)
    ):
        importlib.reload(sys.modules[name])
    assert 2222 == call(task)


def test_a_module_that_comes_later(folder: Folder) -> None:
    """It is missing, then it is there."""
    folder.on_path()
    assert call(optional) is None
    folder.write("moment_plain.py", "V = 1")
    importlib.invalidate_caches()
    assert 1 == call(optional)


def test_state_of_a_loaded_module_travels(folder: Folder) -> None:
    """What this process set in it."""
    folder.write("moment_plain.py", "V = 1")
    folder.on_path()
    importlib.invalidate_caches()
    module = importlib.import_module("moment_plain")
    for n in range(3):
        module.V = n  # type: ignore[attr-defined]
        assert n == call(plain)


TASKS = """
import flyte_nb as flyte
env = flyte.TaskEnvironment("moment-tasks")
{before}
@env.task{options}
async def task(x: int) -> int:
    return {body}
def make(n: int):
    @env.task
    async def made(x: int) -> int:
        return x + n
    return made
first, second = make(1), make(2)
"""


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"body": "x + 1"}, {"body": "x + 2"}, 2),
        ({"body": "helper(x)", "before": "def helper(x): return 1"}, {"body": "helper(x)", "before": "def helper(x): return 2"}, 2),
        ({"body": "K", "before": "K = 1"}, {"body": "K", "before": "K = 2"}, 2),
        ({"body": "C.k", "before": "class C:\n    k = 1"}, {"body": "C.k", "before": "class C:\n    k = 2"}, 2),
        ({"body": "x"}, {"body": "x + 2", "options": "(retries=3)"}, 2),
        ({"body": "C().get()", "before": "class C:\n    def get(self): return 1"},
         {"body": "C().get()", "before": "class C:\n    def get(self): return 2"}, 2),
        ({"body": "os.path.sep and 1", "before": "import os"}, {"body": "len(os.path.sep) + 1", "before": "import os"}, 2),
        ({"body": "x", "options": "(short_name='a')"}, {"body": "x + 2"}, 2),
        ({"body": "x"}, {"body": "(lambda: 2)()"}, 2),
        ({"body": "x", "before": "L = []"}, {"body": "L[0]", "before": "L = [2]"}, 2),
    ],
)  # fmt: skip
def test_a_task_that_was_imported_by_name_follows_its_module(
    folder: Folder, before: dict[str, str], after: dict[str, str], wanted: int
) -> None:
    """As a function does under ``%autoreload``; copies with other settings too; tasks made by a function stay apart."""
    given = {"before": "", "options": ""}
    folder.write("moment_tasks.py", TASKS.format(**(given | before)))
    folder.on_path()
    importlib.invalidate_caches()
    module: Any = importlib.import_module("moment_tasks")
    task, copy, first, second = module.task, module.task.override(retries=5), module.first, module.second
    call(task, 0)
    for body in (after, before, after):
        folder.write("moment_tasks.py", TASKS.format(**(given | body)))
        importlib.reload(module)

    assert [wanted, wanted, wanted] == [call(module.task, 0), call(task, 0), call(copy, 0)]
    assert 5 == copy.retries.count
    assert [1, 2] == [call(first, 0), call(second, 0)]
