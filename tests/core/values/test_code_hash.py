"""Versions of functions."""

from __future__ import annotations

import functools
import linecache
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest

from flyte_nb.core.values.code_hash import code_version, function_version, helpers_version

_cells = iter(range(10_000))


def run_cell(source: str, namespace: dict[str, Any] | None = None, *, keep_source: bool = True) -> dict[str, Any]:
    """Execute source as a notebook does: under a file name of its own, known to linecache."""
    source = textwrap.dedent(source)
    filename = f"/tmp/ipykernel_1/{next(_cells)}.py"
    if keep_source:
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope = namespace if namespace is not None else {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), scope)
    return scope


def version(source: str, *, keep_source: bool = True, of: Callable[[Any], str] = function_version) -> str:
    return of(run_cell(source, keep_source=keep_source)["f"])


BASE = """
def f(x: int) -> int:
    '''Adds one.'''
    return x + 1
"""


@pytest.mark.parametrize("keep_source", [True, False], ids=["source", "code"])
def test_running_a_cell_again_changes_nothing(keep_source: bool) -> None:
    """With source or without."""
    assert version(BASE, keep_source=keep_source) == version(BASE, keep_source=keep_source)
    assert version(BASE, keep_source=keep_source) == version("\n\n\n" + BASE, keep_source=keep_source)


def test_comments_and_layout_do_not_count() -> None:
    """Only what the parser sees."""
    other = """
    def f(x:int)->int:
        '''Adds one.'''

        # a comment
        return (x
                + 1)
    """

    assert version(BASE) == version(other)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("+ 1", "+ 2"),
        BASE.replace("Adds", "Add"),
        BASE.replace("x: int", "x: float"),
        BASE.replace("x: int", "x: int = 3"),
        BASE.replace("\ndef", "\nimport functools\n@functools.lru_cache(3)\ndef"),
        BASE.replace("def f", "async def f"),
    ],
    ids=["body", "docstring", "annotation", "default", "decorator", "async"],
)
def test_what_the_parser_sees_counts(other: str) -> None:
    """Decorators and docstrings too."""
    assert version(BASE) != version(other)


def test_arguments_of_a_decorator_count_though_the_code_is_the_same() -> None:
    """Two functions with equal code objects are told apart."""
    cell = """
    def mark(n):
        return lambda function: function

    @mark({n})
    def f(x):
        return x
    """

    assert version(cell.format(n=1)) != version(cell.format(n=2))


def test_code_tells_functions_apart_without_source() -> None:
    """Body, constants, nested functions and names."""
    bodies = [
        "return x + 1",
        "return x + 2",
        "return x - 1",
        "return len(x)",
        "return abs(x)",
        "return (lambda: 1)()",
        "return (lambda: 2)()",
    ]
    versions = {version(f"def f(x):\n    {body}", keep_source=False) for body in bodies}

    assert len(bodies) == len(versions)


def test_constants_in_a_set_hash_the_same_in_every_process() -> None:
    """The order of a frozenset differs with the hash seed; the version does not."""
    program = (
        'scope = {}; exec(\'def f(x):\\n    return x in {"a", "b", "c", "d"}\', scope)\n'
        "from flyte_nb.core.values.code_hash import function_version; print(function_version(scope['f']))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip

    assert len(seen) == 1


def test_lambdas_of_one_line_are_told_apart() -> None:
    """Their source is the whole line."""
    scope = run_cell("a, b = (lambda x: x + 1), (lambda x: x + 2)")

    assert function_version(scope["a"]) != function_version(scope["b"])


def test_partials_methods_and_wrappers_are_the_function_inside() -> None:
    """What a user wraps is what counts."""

    class Holder:
        def method(self, x: int) -> int:
            return x

    def plain(x: int) -> int:
        return x

    @functools.wraps(plain)
    def wrapper(*args: Any) -> Any:
        return plain(*args)

    assert function_version(Holder().method) == function_version(Holder.method)
    assert function_version(functools.partial(plain, 1)) == function_version(plain) == function_version(wrapper)
    assert function_version(len) != function_version(max)


# -- Helpers -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import math
{imports}

LIMIT = {limit}
calls = []

class Scaler:
    factor = {factor}

    def scale(self, x):
        return deeper(x) * self.factor

def deeper(x):
    return x {operator} 1

def helper(x):
    return Scaler().scale(x)

def unused(x):
    return {unused}

def f(x):
    calls.append(x)
    return helper(x) + math.floor(x) + LIMIT + sum(inner(y) for y in [x])

def inner(x):
    return x
"""
USUAL = {"imports": "", "limit": 1, "factor": 2, "operator": "+", "unused": 0}


@pytest.mark.parametrize("keep_source", [True, False], ids=["source", "code"])
@pytest.mark.parametrize("change", [{"operator": "-"}, {"factor": 3}], ids=["function", "class"])
def test_helpers_count_however_deep(change: dict[str, Any], keep_source: bool) -> None:
    """A helper of a helper is part of the task; the task's own version does not see it."""
    before, after = (PROGRAM.format(**settings) for settings in (USUAL, USUAL | change))

    assert version(before, keep_source=keep_source, of=helpers_version) != version(
        after, keep_source=keep_source, of=helpers_version
    )
    assert version(before, keep_source=keep_source) == version(after, keep_source=keep_source)


@pytest.mark.parametrize(
    "change", [{"unused": 1}, {"limit": 2}, {"imports": "import json"}], ids=["unused", "value", "import"]
)
def test_what_is_not_a_helper_does_not_count(change: dict[str, Any]) -> None:
    """A function that is not used, a plain value, an import."""
    before, after = (PROGRAM.format(**settings) for settings in (USUAL, USUAL | change))

    assert version(before, of=helpers_version) == version(after, of=helpers_version)


def test_state_of_the_program_does_not_count() -> None:
    """Running the function, or adding names, is no edit."""
    scope = run_cell(PROGRAM.format(**USUAL))
    before = helpers_version(scope["f"])
    scope["f"](1)
    scope["LIMIT"] = 99
    run_cell("def another():\n    return 1", scope)

    assert before == helpers_version(scope["f"])


def test_redefined_helper_counts_at_once() -> None:
    """The version is that of the moment."""
    scope = run_cell(PROGRAM.format(**USUAL))
    before = helpers_version(scope["f"])
    run_cell("def deeper(x):\n    return x * 7", scope)

    assert before != helpers_version(scope["f"])


def test_helper_in_a_closure_counts() -> None:
    """A function given to a factory is used by what it makes."""
    cell = """
    def make(operation):
        def f(x):
            return operation(x)
        return f

    def operation(x):
        return x {operator} 1

    f = make(operation)
    """

    assert version(cell.format(operator="+"), of=helpers_version) != version(
        cell.format(operator="-"), of=helpers_version
    )


def test_callee_task_counts() -> None:
    """A task that a cached task calls is a helper like any other."""
    cell = """
    from flyte_nb.core.tasks.task_environment import TaskEnvironment
    env = TaskEnvironment("e")

    @env.task
    async def child(x: int) -> int:
        return x {operator} 1

    @env.task
    async def f(x: int) -> int:
        return await child(x)
    """

    assert version(cell.format(operator="+"), of=helpers_version) != version(
        cell.format(operator="-"), of=helpers_version
    )


def test_wrapper_of_a_decorator_counts_and_so_does_what_it_wraps() -> None:
    """Both are code that a call runs."""
    cell = """
    import functools

    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x) {outer} 1
        return wrapper

    @decorate
    def helper(x):
        return x {inner} 1

    def f(x):
        return helper(x)
    """
    versions = {version(cell.format(outer=o, inner=i), of=helpers_version) for o in "+-" for i in "+-"}

    assert len(versions) == 4


def test_functions_that_call_each_other_end() -> None:
    """A cycle of helpers is walked once."""
    scope = run_cell("def f(x):\n    return g(x)\n\ndef g(x):\n    return f(x)\n\ndef h(x):\n    return h(x)")

    assert len({helpers_version(scope[name]) for name in "fgh"}) == 3


def test_helper_in_a_users_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """``utils.clean(x)`` of a file beside the notebook."""
    module = types.ModuleType("my_utils")
    module.__file__ = "/home/me/my_utils.py"
    monkeypatch.setitem(sys.modules, "my_utils", module)

    def of(operator: str) -> str:
        run_cell(f"def clean(x):\n    return x {operator} 1", module.__dict__)
        return helpers_version(run_cell("import my_utils\ndef f(x):\n    return my_utils.clean(x)")["f"])

    assert of("+") == of("+") != of("-")


#: By name: a program, and two texts that stand in it for VALUE.
EDITS: dict[str, tuple[str, str, str]] = {
    "a default from a variable": ("K = VALUE\ndef f(x, k=K): return x * k", "1", "2"),
    "a keyword's default": ("K = VALUE\ndef f(x, *, k=K): return x * k", "1", "2"),
    "a helper's default": ("K = VALUE\ndef g(k=K): return k\ndef f(x): return g()", "1", "2"),
    "a lambda's default": ("g = lambda *, k=VALUE: k\ndef f(x): return g()", "1", "2"),
    "a list in a class": ("class C:\n    layers = VALUE\ndef f(x): return C.layers", "[1]", "[2]"),
    "a dict in a class": ("class C:\n    t = VALUE\ndef f(x): return C.t", "{'a': [1]}", "{'a': [2]}"),
    "an enum's value": ("import enum\nclass C(enum.Enum):\n    A = VALUE\ndef f(x): return C.A.value", "1", "2"),
    "a field's factory": (
        ("import dataclasses as d\n@d.dataclass\nclass C:\n    a: list = d.field(default_factory=lambda: VALUE)\n"
        "def f(x): return C().a"), "[1]", "[2]",
    ),
    "a tuple's default": ("import typing\nclass C(typing.NamedTuple):\n    a: int = VALUE\ndef f(x): return C().a", "1", "2"),
    "a model's default": ("import pydantic\nclass C(pydantic.BaseModel):\n    a: int = VALUE\ndef f(x): return C().a", "1", "2"),
    "a partial's argument": ("import functools\ndef g(x, y): pass\np = functools.partial(g, VALUE)\ndef f(x): return p(x)", "1", "2"),
    "a function in a dict": ("T = {'a': lambda x: x * VALUE}\ndef f(x): return T['a'](x)", "1", "2"),
    "a function in a list": ("def a(x): return x * VALUE\nT = [(a,)]\ndef f(x): return T[0][0](x)", "1", "2"),
    "a method of an object": ("class C:\n    def m(self): return VALUE\nc = C()\ndef f(x): return c.m()", "1", "2"),
    "a property": ("class C:\n    m = property(lambda self: VALUE)\nc = C()\ndef f(x): return c.m", "1", "2"),
    "a metaclass": ("class M(type):\n    def k(cls): return VALUE\nclass C(metaclass=M): pass\ndef f(x): return C.k()", "1", "2"),
    "a class in a class": ("class C:\n    class D:\n        k = VALUE\ndef f(x): return C.D.k", "1", "2"),
    "a registered function": (
        "import functools\ng = functools.singledispatch(lambda x: 0)\ng.register(int, lambda x: VALUE)\ndef f(x): return g(x)",
        "1", "2",
    ),
    "a descriptor's method": (
        "class D:\n    def __get__(self, o, t): return VALUE\nclass C:\n    d = D()\ndef f(x): return C.d", "1", "2",
    ),
    "an object's function": (
        "import types\no = types.SimpleNamespace(steps=[lambda x: VALUE])\ndef f(x): return o.steps[0](x)", "1", "2",
    ),
    "a decimal": ("import decimal\nD = decimal.Decimal(VALUE)\ndef f(x): return D", "'1'", "'2'"),
    "a date": ("import datetime\nD = datetime.date(2020, 1, VALUE)\ndef f(x): return D", "1", "2"),
    "a path": ("import pathlib\nD = pathlib.Path(VALUE)\ndef f(x): return D", "'a'", "'b'"),
    "a pattern": ("import re\nD = re.compile(VALUE)\ndef f(x): return D", "'a'", "'b'"),
    "a range": ("D = range(VALUE)\ndef f(x): return len(D)", "1", "2"),
    "a member": ("import enum\nC = enum.Enum('C', 'A B')\nD = C(VALUE)\ndef f(x): return D", "1", "2"),
    "a frozen object": (
        "import dataclasses as d\n@d.dataclass(frozen=True, slots=True)\nclass C:\n    a: int\nD = C(VALUE)\ndef f(x): return D",
        "1", "2",
    ),
    "a named tuple": ("import collections\nC = collections.namedtuple('C', 'a')\nD = C(VALUE)\ndef f(x): return D", "1", "2"),
    "a number of NumPy's": ("import numpy as np\nD = np.float64(VALUE)\ndef f(x): return D", "1", "2"),
    "a time of pandas'": ("import pandas as pd\nD = pd.Timestamp(VALUE)\ndef f(x): return D", "1", "2"),
    "a type": ("T = VALUE\ndef f(x): return isinstance(x, T)", "int", "str"),
    "an installed function": ("import math, cmath\nF = VALUE.sqrt\ndef f(x): return F(x)", "math", "cmath"),
    "an installed module": ("import VALUE as m\ndef f(x): return m.sqrt(x)", "math", "cmath"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_whatever_decides_what_the_code_does_counts(name: str) -> None:
    """An edit is another version, and running a cell again unchanged is not."""
    program, before, after = EDITS[name]

    def of(text: str) -> str:
        return code_version(run_cell(program.replace("VALUE", text))["f"])

    assert of(before) == of(before) != of(after)
