"""Which code is the user's: one answer for hashes, for what travels, and for tracebacks."""

from __future__ import annotations

import pickle
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.core.values import code_hash, source_lines
from flyte_nb.core.values.user_code import is_user_code, is_user_file, library_path, names_in_texts

STDLIB = sysconfig.get_path("stdlib")
PURELIB = sysconfig.get_path("purelib")


@pytest.mark.parametrize(
    ("filename", "module", "users"),
    [
        ("/home/me/project/helper.py", "helper", True),
        (f"{sys.prefix}/helper.py", "helper", True),
        (f"{sys.base_prefix}/src/app/helper.py", "app.helper", True),
        ("/tmp/ipykernel_1/2.py", "__main__", True),
        ("<string>", "__main__", True),
        (f"{STDLIB}/textwrap.py", "textwrap", False),
        (f"{STDLIB}/lib-dynload/_json.so", "_json", False),
        (f"{PURELIB}/cloudpickle/__init__.py", "cloudpickle", False),
        ("/home/me/project/.venv/lib/python3.12/site-packages/numpy/matlib.py", "numpy.matlib", False),
        ("/usr/lib/python3/dist-packages/apt/cache.py", "apt.cache", False),
        (r"C:\project\.venv\Lib\site-packages\numpy\matlib.py", "numpy.matlib", False),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap", False),
        ("/home/me/flyte_nb/core/task.py", "flyte_nb.core.tasks.task", False),
    ],
)
def test_files(filename: str, module: str, users: bool) -> None:
    """Libraries are known by their folders, wherever the project is."""
    assert users == is_user_file(filename, module)
    assert users == (source_lines.kind_of(filename, module) == source_lines.USER)


def test_installed_packages_and_ours_are_not_user_code() -> None:
    """Their versions are their own."""
    import textwrap as stdlib

    others = (stdlib.dedent, cloudpickle.dumps, code_hash.function_version, cloudpickle, stdlib, int)
    assert [False] * 6 == [is_user_code(other) for other in others]
    assert is_user_code(test_files)
    assert is_user_code(sys.modules[__name__])


def test_a_helper_module_below_the_prefix_travels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A project in whose root the virtual environment was made: its modules count for the hash, and reach workers."""
    helper = types.ModuleType("helper_below_prefix")
    helper.__file__ = f"{sys.prefix}/helper_below_prefix.py"
    exec(compile("def double(x):\n    return 2 * x\n", helper.__file__, "exec"), helper.__dict__)
    monkeypatch.setitem(sys.modules, helper.__name__, helper)

    def work(x: int) -> int:
        return int(helper.double(x))

    def other(x: int) -> int:
        return x

    try:
        (tmp_path / "task").write_bytes(dump_function(work))
    finally:
        cloudpickle.unregister_pickle_by_value(helper)
    program = f"import pickle; print(pickle.loads(open({str(tmp_path / 'task')!r}, 'rb').read())(4))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ("8\n", "") == (done.stdout, done.stderr)
    before = code_hash.helpers_version(work)
    exec(compile("def double(x):\n    return 3 * x\n", helper.__file__, "exec"), helper.__dict__)
    assert before != code_hash.helpers_version(work)
    assert pickle.loads(dump_function(other))(5) == 5


def test_what_pip_has_put_into_a_folder_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``pip install --target`` into a folder of the user's, or into the project itself; the user's files beside it are not."""
    for name in ("thing/__init__.py", "thing/part.py", "single.py", "mine.py", "own/thing.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_user_file(str(tmp_path / "thing" / "part.py"))
    (tmp_path / "thing-1.0.dist-info").mkdir()
    (tmp_path / "thing-1.0.dist-info" / "RECORD").write_text(
        "thing/__init__.py,sha256=x,0\nsingle.py,,\nthing/part.py,,\n"
    )
    is_user_file.cache_clear()

    assert library_path(str(tmp_path / "thing" / "part.py")) == "thing/part.py"
    assert [False, False, True, True] == [
        is_user_file(str(tmp_path / name)) for name in ("thing/part.py", "single.py", "mine.py", "own/thing.py")
    ]


def test_names_in_texts_are_those_that_python_looks_up() -> None:
    """In ``eval`` and ``exec``, behind ``@`` in a query, in ``globals()``; a method of such a name looks up nothing."""

    def uses(frame: Any, model: Any) -> Any:
        model.eval()
        return frame.query("a > @LIMIT"), "OTHER", frame["data"]

    def evaluates() -> Any:
        exec("x = FIRST + 1")
        return [eval("SECOND.a") for _ in range(1)], globals()["THIRD"], "not a name"

    assert names_in_texts(uses.__code__) == ("LIMIT",)
    assert {"FIRST", "SECOND", "THIRD"} <= set(names_in_texts(evaluates.__code__))
