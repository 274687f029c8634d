"""What a pickle keeps of a function, whatever cloudpickle keeps of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from flyte_nb.core.failures import class_pickle
from flyte_nb.core.transport import payload, task_code
from flyte_nb.core.values import pickler

CELL = "/tmp/ipykernel_1/2764.py"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any installed cloudpickle reduces code as 3.1.3 does, whose functions come from ``<dynamic-code>``."""
    plain = pickler._as_cloudpickle

    def reduce(code: Any) -> Any:
        return plain(code.replace(co_filename="<dynamic-code>"))

    monkeypatch.setattr(pickler, "_as_cloudpickle", reduce)


def made_in_cell(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, CELL, "exec"), namespace)
    return namespace


def test_a_function_arrives_with_the_file_name_of_its_cell() -> None:
    """Tracebacks and breakpoints of a worker find the lines of a cell."""
    function = made_in_cell("def outer():\n    def inner():\n        return 1 / 0\n    return inner")["outer"]
    arrived = pickle.loads(task_code.dump_function(function))
    assert arrived.__code__ == function.__code__
    assert (arrived.__code__.co_filename, arrived().__code__.co_filename) == (CELL, CELL)


def test_functions_among_arguments_keep_their_file_name() -> None:
    """A lambda that is an argument is as easy to find as a task."""
    call = made_in_cell("call = lambda x: 1 / x")["call"]
    assert payload.loads(payload.dumps({"key": call}))["key"].__code__.co_filename == CELL


def test_an_exception_class_of_a_cell_keeps_its_file_name() -> None:
    """Methods of a class that travels with an error can be debugged."""
    packed = class_pickle.pack_class(made_in_cell("class Odd(Exception):\n    def why(self): return 3")["Odd"])
    assert packed is not None
    assert CELL.encode() in packed.data
    assert b"<dynamic-code>" not in packed.data


def test_a_lone_object_goes_by_the_name_that_every_receiver_knows(monkeypatch):
    """`dataclasses.MISSING` by that, whichever of the user's modules import it too."""
    import dataclasses
    import sys
    import types

    beside = types.ModuleType("beside")
    vars(beside)["MISSING"] = dataclasses.MISSING
    monkeypatch.setitem(sys.modules, "beside", beside)
    monkeypatch.setattr(sys.modules["__main__"], "NOTHING", dataclasses.MISSING, raising=False)
    data = pickler.dumps([dataclasses.MISSING])

    assert b"dataclasses:MISSING" in data
    assert pickle.loads(data)[0] is dataclasses.MISSING


def test_a_pickler_keeps_nothing_of_what_it_pickled():
    """No reference to itself: what it has pickled goes when it is done, and not with the next collection."""
    import gc
    import io
    import weakref

    gc.collect()
    gc.disable()
    try:
        function = lambda: [object()]  # noqa: E731
        made = pickler.Pickler(io.BytesIO(), protocol=5)
        made.dump([function, ValueError("a"), object()])
        gone = weakref.ref(made)
        del made
        assert gone() is None
    finally:
        gc.enable()


def test_only_what_python_made_is_taken_for_a_lone_object():
    """An object with anything in C is never made without its own ``__new__``."""
    import collections
    import decimal
    import enum
    import functools
    import operator
    import random
    import re
    import threading

    from flyte_nb.core.values.by_value.classes import is_plain_object

    class Plain: ...

    class Slots:
        __slots__ = ("__weakref__", "a", "b")

    class Both(Slots, Plain):
        __slots__ = ("c",)

    class Kind(enum.Enum):
        A = 1

    class Words(dict): ...

    class Local(threading.local): ...

    class Generator(random.Random): ...

    assert all(map(is_plain_object, (Plain, Slots, Both)))
    foreign: tuple[type, ...] = (
        Kind, Words, Local, Generator, dict, re.Pattern, decimal.Context, functools.partial, operator.itemgetter,
        collections.deque, type(threading.Lock()), type(iter([])), ValueError,
    )  # fmt: skip
    assert not any(map(is_plain_object, foreign))
