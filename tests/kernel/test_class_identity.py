"""The notebook's own classes: one class, one identity, from the first call on, after redefinition, and in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

CLASSES = """
import dataclasses, enum
from typing import Any, NamedTuple
import flyte_nb as flyte

@dataclasses.dataclass(slots=True)
class Slotted:
    x: int = 1

class Color(enum.Enum):
    RED = (1, "r")
    ROT = (1, "r")
    def __init__(self, number, letter):
        self.letter = letter

class Pair(NamedTuple):
    x: int = 1

class Trouble(Exception):
    def __init__(self, a, *, b):
        super().__init__(a)
        self.b = b
    def __eq__(self, other):
        return type(other) is Trouble and (self.args, self.b) == (other.args, other.b)

MISSING = object()
"""
TASKS = """
env = flyte.TaskEnvironment("own")

@env.task
async def looks(value: Any = MISSING) -> Any:
    which = [cls.__name__ for cls in (Slotted, Color, Pair, Trouble) if isinstance(value, cls)]
    return [which, value is MISSING, value is Color.ROT, value]

@env.task(cache="auto")
async def makes(n: int) -> Any:
    print("computed")
    return [Slotted(n), Color.RED, Pair(n), Trouble(n, b=2), MISSING]

async def round_trips(*values):
    seen = []
    for value in values:
        which, missing, red, back = await looks(value)
        same = back is value if isinstance(value, Color) or type(value) is object else back == value
        seen.append((*which, missing, red, same and type(back) is type(value)))
    return str(seen)
"""
EXPECTED = [
    ("Slotted", False, False, True), ("Color", False, True, True), ("Pair", False, False, True),
    ("Trouble", False, False, True), (True, False, True),
]  # fmt: skip
ALL = "await round_trips(Slotted(), Color.ROT, Pair(), Trouble(1, b=2), MISSING)"
MADE = """
made = await makes(3)
[isinstance(v, c) for v, c in zip(made, (Slotted, Color, Pair, Trouble))], made[0] == Slotted(3), made[1] is Color.RED, \
made[1].letter, made[3] == Trouble(3, b=2), made[4] is MISSING
"""


@pytest.fixture(scope="module")
def nb() -> Iterator[Kernel]:
    """A kernel with the classes and the tasks."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(CLASSES).ok()
        kernel.run(TASKS).ok()
        yield kernel


def test_from_the_first_call_on(nb):
    """As an argument and as a result; the default is the object itself."""
    assert repr(str(EXPECTED)) == nb.run(ALL).ok().result
    assert "True" == nb.run("(await looks())[1]").ok().result


def test_after_redefinition(nb):
    """As in plain Python: an old instance is none of the new class, a new one is, and the old comes back as what it was."""
    nb.run("old = [Slotted(), Pair(), MISSING]").ok()
    nb.run(CLASSES).ok()

    assert repr(str(EXPECTED)) == nb.run(ALL).ok().result
    cell = nb.run(
        "seen = [await looks(v) for v in old]\n"
        "[s[0] for s in seen], seen[2][1], [type(s[3]) is type(v) for s, v in zip(seen, old)], seen[2][3] is old[2]"
    )
    assert "([[], [], []], False, [True, True, True], True)" == cell.ok().result


def test_instances_that_exist_are_left_alone(nb):
    """A result does not write over the methods or attributes of the notebook's class."""
    cell = nb.run(
        "class Counter:\n    seen = 0\n    def bump(self):\n        type(self).seen += 1\n        return self.seen\n"
        "@env.task\nasync def bumps(c: Counter) -> Counter:\n    c.bump()\n    return c\n"
        "bump = Counter.bump\nback = await bumps(Counter())\n(Counter.bump is bump, Counter.seen, type(back) is Counter)"
    )
    assert "(True, 0, True)" == cell.ok().result


def test_partials_and_objects_are_tasks(nb):
    """Under the name of their function or class."""
    cell = nb.run(
        "import functools\ndef add(a: int, b: int) -> int:\n    return a + b\n"
        "class Scale:\n    def __init__(self, by: int) -> None:\n        self.by = by\n"
        "    async def __call__(self, x: int) -> int:\n        return x * self.by\n"
        "plus, times = env.task(functools.partial(add, 3)), env.task(Scale(4))\n"
        "[plus.name, times.name, await plus.aio(1), await times(2)]"
    )
    assert "['own.add', 'own.Scale', 4, 8]" == cell.ok().result


def test_what_cannot_be_rebuilt_is_told_from_an_error_of_the_task(nb):
    """It pickles there, and does not unpickle here."""
    cell = nb.run(
        "class Stubborn:\n    def __reduce__(self):\n        return (int, ('x',))\n"
        "@env.task\nasync def stubborn() -> Any:\n    return Stubborn()\nawait stubborn()"
    )
    assert "RebuildError" in cell.error.name
    assert "the task own.stubborn succeeded, but its result cannot be rebuilt here: ValueError" in cell.error.value


def test_cached_results_are_of_the_classes_of_this_kernel(nb):
    """After a cell ran again, and in a kernel that was started anew."""
    expected = "([True, True, True, True], True, True, 'r', True, True)"
    assert expected == nb.run(MADE).ok().result
    nb.run(CLASSES).ok()
    assert expected == nb.run(MADE).ok().result

    nb.restart()
    for code in ("%load_ext flyte_nb", CLASSES, TASKS):
        nb.run(code).ok()
    cell = nb.run(MADE).ok()
    assert expected == cell.result
    assert "computed" not in cell.views
