"""A failure record holds what is needed to debug, whatever the failing code held, and stays small."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from flyte_nb import errors
from flyte_nb.core.failures import capture as failure
from flyte_nb.core.failures import rebuild, snapshot
from flyte_nb.core.failures import record as failure_record
from flyte_nb.core.failures.capture import capture
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.failures.reraise import raise_as
from flyte_nb.core.failures.stand_ins import Redacted, Summary
from flyte_nb.core.values import redact, source_lines
from tests.core.failures import failing

SOURCE = Path(failing.__file__).read_text().splitlines()


def place(text: str, function: str) -> str:
    """Where the line is that holds a text: "failing.py:12 in f"."""
    (line,) = [number for number, found in enumerate(SOURCE, 1) if text in found]
    return f"failing.py:{line} in {function}"


ROOT = Path(__file__).resolve().parents[2]


def record_of(
    function: Callable[..., object], *args: object, user_only: bool = True, **kwargs: object
) -> FailureRecord:
    """Run what fails, and give its record after a trip through pickle."""
    try:
        result = function(*args, **kwargs)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        made = capture(
            exc, task="demo.task", action="x1", label="task(1)", attempt=0, worker="tcp://w:1", user_only=user_only
        )
        return FailureRecord.loads(made.dumps())
    raise AssertionError("it did not fail")


def locals_of(record: FailureRecord, name: str) -> dict[str, Any]:
    """Restored locals of the innermost frame of a function."""
    index = max(i for i, frame in enumerate(record.frames) if frame.name == name)
    return restored(record, index)


def restored(record: FailureRecord, index: int) -> dict[str, Any]:
    """Restored locals of one frame."""
    return {name: snapshot.restore(kept, record.classes) for name, kept in (record.frames[index].locals or {}).items()}


def held(value: object) -> Any:
    """A value after a trip through the locals of a failing frame, inside a dictionary."""
    return locals_of(record_of(failing.fails_with, value=value), "fails_with")["held"]["value"]


def test_it_says_what_failed_where_and_in_which_action() -> None:
    """Type, message, code, innermost place, action."""
    record = record_of(failing.square, 7)

    assert (record.type_name, record.message, record.code, record.kind) == (
        "IndexError",
        "list index out of range",
        "IndexError",
        "user",
    )
    assert record.where == place("return both[", "inner")
    assert record.origin == failure_record.Hop("x1", "demo.task", "task(1)", 0, "tcp://w:1")
    assert repr(record) == (
        f"<FailureRecord IndexError: 'list index out of range' at {place('return both[', 'inner')} in task(1), 3 frames>"
    )


def test_frames_carry_locals_line_and_source() -> None:
    """And the globals that the function used."""
    record = record_of(failing.square, 7)

    assert locals_of(record, "square") == {"x": 7, "y": 14}
    assert locals_of(record, "inner") == {"y": 14, "both": [14, 15]}
    assert record.frames[-1].line == "return both[y + LIMIT]"
    assert record.frames[-1].globals == {"LIMIT": 10}
    (source,) = [source for source in record.sources if source.filename.endswith("failing.py")]
    assert source.whole
    assert source.text == Path(failing.__file__).read_text()


def test_frames_of_the_machinery_are_marked_and_carry_no_locals() -> None:
    """asyncio's frames stand between the caller's and the coroutine's."""
    record = record_of(failing.waits, 3)

    kinds = [frame.kind for frame in record.frames]
    assert kinds[0] == kinds[-1] == "user"
    assert "machinery" in kinds
    assert record.hidden == kinds.count("machinery")
    assert all(frame.locals is None for frame in record.frames if not frame.is_user)


def test_frames_of_libraries_carry_locals_on_request_only() -> None:
    """They are seldom what one wants to see, and often large."""

    def fails_in_a_library() -> None:
        dataclasses.replace(3, x=1)  # type: ignore[type-var]

    without, with_them = record_of(fails_in_a_library), record_of(fails_in_a_library, user_only=False)

    assert without.frames[-1].kind == with_them.frames[-1].kind == "library"
    assert without.frames[-1].locals is None
    assert restored(with_them, len(with_them.frames) - 1)["obj"] == 3


@pytest.mark.parametrize(
    "value",
    [
        1, 2.5, "text", b"bytes", None, True, (1, [2, {"a": {3}}]), collections.OrderedDict(a=1), collections.Counter("aab"),
        frozenset({1}), range(3), complex(1, 2), 10**400,
    ],
)  # fmt: skip
def test_values_of_built_in_types_arrive_as_they_were(value: object) -> None:
    """Small ones, that is."""
    assert held(value) == value


def test_small_arrays_arrive_and_large_ones_are_summarized() -> None:
    """By shape and dtype, without being copied."""
    assert held(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    large = held(np.zeros((1000, 500)))
    assert repr(large) == "<remote numpy.ndarray 1000x500 float64, 4.0 MB (too large to keep)>"
    assert large.shape == (1000, 500)


def test_data_frames_arrive_or_are_summarized() -> None:
    """With their columns."""
    small = pd.DataFrame({"a": [1, 2]})

    assert held(small).equals(small)
    large = held(pd.DataFrame(np.zeros((10_000, 3)), columns=["p", "q", "r"]))
    assert isinstance(large, Summary)
    assert large.columns == ["p", "q", "r"]
    assert "10000x3" in repr(large)


def test_huge_texts_and_containers_are_cut() -> None:
    """Their beginning is shown."""
    assert repr(held("x" * 10**7)).startswith("<remote str of length 10000000: 'xxx")
    assert repr(held(list(range(10**6)))).startswith("<remote list of length 1000000: [0, 1, 2")
    record = record_of(failing.fails_holding, ["a", list(range(15_000)), "b"])
    parts = locals_of(record, "fails_holding")["value"]
    assert (parts[0], parts[2]) == ("a", "b")
    assert repr(parts[1]).startswith("<remote list of length 15000: [0, 1, 2")


def test_recursive_values_arrive() -> None:
    """As pickle has always done it."""
    value: list[Any] = [1]
    value.append(value)

    arrived = held(value)

    assert arrived[1] is arrived


def test_very_deep_values_do_not_break_it() -> None:
    """pickle would raise RecursionError."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]

    assert isinstance(held(value), Summary)


def test_what_cannot_be_pickled_is_replaced_where_it_stands() -> None:
    """The rest of the container arrives."""
    arrived = held({"lock": threading.Lock(), "n": 3, "lines": iter([1])})

    assert arrived["n"] == 3
    assert repr(arrived["lock"]) == "<remote _thread.lock (not picklable)>"
    assert repr(arrived["lines"]) == "<remote list_iterator (not picklable)>"


def test_objects_of_plain_classes_arrive() -> None:
    """Named tuples, data classes, namespaces."""
    Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the untyped form is what is tested
    value = types.SimpleNamespace(a=1, b=[2])

    assert held(value) == value
    assert held(failing.Pair(1, [2])) == failing.Pair(1, [2])
    assert repr(held(Point(1, "b"))) == "<remote Point 1, 'b' (its class is not known here)>"


def test_no_code_of_a_foreign_class_is_run() -> None:
    """Its repr may sleep, for so long that this test would time out: its attributes are read past it."""
    arrived = held([failing.Sleepy(), failing.Raising()])

    assert isinstance(arrived[0], Summary)
    assert arrived[0].size == 3
    assert repr(arrived[0]) == "<remote tests.Sleepy size=3>"
    assert isinstance(arrived[1], Summary)


def test_a_value_that_does_not_unpickle_shows_its_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class may have changed."""
    record = record_of(failing.fails_holding, failing.Unloadable())
    monkeypatch.setattr(failing, "loadable", False)

    arrived = locals_of(record, "fails_holding")["value"]

    assert isinstance(arrived, Summary)
    assert repr(arrived) == "<remote tests.Unloadable (does not unpickle here: RuntimeError: not here)>"


def test_an_object_whose_class_is_missing_shows_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is beside it in a container arrives as it was."""
    record = record_of(failing.fails_holding, [failing.Pair(1, [2]), failing.OddError(1, detail="x"), 3])
    monkeypatch.delattr(failing, "Pair")
    monkeypatch.delattr(failing, "OddError")

    pair, error, number = locals_of(record, "fails_holding")["value"]

    assert repr(pair) == "<remote Pair left=1, right=<list> (its class is not known here)>"
    assert pair.right == [2]
    assert error.number == 1
    assert "OddError" in repr(error)
    assert number == 3


def test_secrets_are_hidden_by_name_and_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """In locals, inside containers and objects, in messages and in labels."""
    # Put together, because the source of this test is part of the record.
    known, given, in_url, in_dict, in_object = (f"{part}-1-2-3-4" for part in ("env", "arg", "url", "dict", "attr"))
    monkeypatch.setenv("SERVICE_TOKEN", known)

    def fails(password: str, config: dict[str, Any], thing: object) -> None:
        raise ValueError(f"cannot log in with {known}")

    thing = types.SimpleNamespace(api_key=in_object, size=3)
    record = record_of(fails, given, {"client_secret": in_dict, "url": f"db://a:{in_url}@h"}, thing)

    seen = locals_of(record, "fails")
    assert isinstance(seen["password"], Redacted)
    assert isinstance(seen["config"]["client_secret"], Redacted)
    assert seen["config"]["url"] == "db://a:***@h"
    assert seen["thing"].size == 3
    assert isinstance(seen["thing"].api_key, Redacted)
    assert record.message == "cannot log in with ***"
    data = record.dumps()
    for secret in (known, given, in_url, in_dict, in_object):
        assert secret.encode() not in data


def test_redaction_is_configurable() -> None:
    """Own names, as in `flyte_nb.core.values.redact`."""
    redact.configure(redact.Redaction(names=("^value$",)))
    try:
        assert isinstance(held(3), Redacted)
    finally:
        redact.configure(redact.Redaction())


def test_a_large_failure_is_bounded() -> None:
    """Many large locals in many frames."""

    def deep(level: int) -> None:
        block = bytes(30_000)
        text = "z" * 15_000
        if level == 0:
            raise ValueError("x" * 100_000 + str(len(block) + len(text)))
        deep(level - 1)

    record = record_of(deep, 40)

    assert len(record.dumps()) < 300_000
    assert locals_of(record, "deep")["level"] == 0
    assert len(record.message) <= failure.MAX_MESSAGE_CHARS


def test_a_record_beyond_the_limit_loses_locals_before_it_loses_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort of `dumps`."""
    record = record_of(failing.square, 7)
    monkeypatch.setattr(failure_record, "MAX_RECORD", len(pickle.dumps(record)) - 10)

    trimmed = FailureRecord.loads(record.dumps())

    assert trimmed.frames[-1].locals is None
    assert trimmed.sources == record.sources
    monkeypatch.setattr(failure_record, "MAX_RECORD", 10)
    assert FailureRecord.loads(record.dumps()).message == "list index out of range"


def test_a_runaway_recursion_keeps_both_ends() -> None:
    """And the number of frames between them."""
    record = record_of(failing.recursive, 0)

    assert record.code == "RecursionError"
    assert len(record.frames) == failure.FIRST_FRAMES + failure.LAST_FRAMES
    assert record.left_out > 500
    assert locals_of(record, "recursive")["depth"] > 500


def test_causes_and_contexts_come_along() -> None:
    """With their own frames and locals."""
    record = record_of(failing.chained)

    assert record.cause is not None
    assert (record.cause.type_name, record.cause.where) == ("KeyError", place('{}["a"]', "chained"))
    assert record.context is None


def test_a_group_carries_its_exceptions() -> None:
    """Each with its frames; nested groups too."""

    async def fails() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing.waits(1))
            group.create_task(failing.waits(2))

    record = record_of(fails)

    assert record.code == "ExceptionGroup"
    assert [child.where for child in record.children] == [place("return both[", "inner")] * 2
    assert record.children_total == 2


def test_a_group_of_hundreds_is_bounded() -> None:
    """The first ones in detail, all of them as exceptions."""
    children = []
    for number in range(600):
        try:
            failing.square(number)
        except IndexError as exc:
            children.append(exc)

    def fails() -> None:
        raise ExceptionGroup("many", children)

    record = record_of(fails)

    assert record.children_total == 600
    assert len(record.children) == failure.MAX_CHILDREN
    assert len(record.dumps()) < 600_000
    assert record.children[0].frames
    assert not record.children[100].frames


def test_an_exception_with_an_odd_constructor_arrives_whole() -> None:
    """With its type, its text and the attributes that can travel."""

    def fails() -> None:
        raise failing.OddError(404, detail="gone")

    original, _ = rebuild.rebuild(record_of(fails))

    assert type(original) is failing.OddError
    assert str(original) == "404: gone"
    assert original.number == 404
    assert isinstance(vars(original)["lock"], Summary)


def test_an_exception_made_in_c_arrives_with_its_attributes() -> None:
    """`errno` of OSError, the bytes of UnicodeDecodeError."""
    no_file, _ = rebuild.rebuild(record_of(open, "/does/not/exist"))
    no_text, _ = rebuild.rebuild(record_of(b"\xff".decode, "utf-8"))

    assert isinstance(no_file, FileNotFoundError)
    assert (no_file.errno, no_file.filename) == (2, "/does/not/exist")
    assert isinstance(no_text, UnicodeDecodeError)
    assert (no_text.object, no_text.start) == (b"\xff", 0)


def test_an_exception_whose_text_cannot_be_made_arrives() -> None:
    """``str()`` of it raises."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mute")

    def fails() -> None:
        raise MuteError

    assert record_of(fails).message == "<str() of this MuteError raised RuntimeError>"


def test_an_exception_that_drags_a_large_value_along_is_cut() -> None:
    """The value becomes a summary, the exception stays."""

    def fails() -> None:
        raise ValueError("bad array", np.zeros(10**6))

    original, _ = rebuild.rebuild(record_of(fails))

    assert isinstance(original, ValueError)
    assert original.args[0] == "bad array"
    assert isinstance(original.args[1], Summary)


def test_an_exception_without_a_traceback_is_recorded() -> None:
    """Nobody raised it."""
    record = capture(KeyError("a"), task="t", action="x", label="t()", attempt=0)

    assert record.frames == ()
    assert record.where == ""


def test_an_error_of_a_child_keeps_its_origin_and_gains_a_place() -> None:
    """Code, message and remote frames stay; this action's own frames come in front."""
    child = record_of(failing.square, 7)

    async def parent(n: int) -> None:
        k = n + 1
        await asyncio.sleep(0)
        raise rebuild.to_exception(child) if k else ValueError

    def twice() -> None:
        asyncio.run(parent(5))

    record = record_of(twice)

    assert (record.code, record.message) == ("IndexError", "list index out of range")
    assert [place.action for place in record.path] == ["x1", "x1"]
    assert [(f.name, f.hop) for f in record.frames if f.is_user][-4:] == [
        ("parent", 1),
        ("record_of", 0),
        ("square", 0),
        ("inner", 0),
    ]
    seen = locals_of(record, "parent")
    assert (seen["n"], seen["k"]) == (5, 6)
    assert locals_of(record, "inner")["y"] == 14


@pytest.mark.parametrize("original", [ValueError("no rows"), ExceptionGroup("two", [ValueError("a"), KeyError("b")])])
def test_an_error_of_a_child_among_the_locals_arrives_as_itself(original: Exception) -> None:
    """A parent that kept what its child raised in a variable: the debugger shows the error, not why it does not load."""

    def parent() -> None:
        caught = raise_as(original, code=type(original).__name__, message=str(original))
        raise RuntimeError("given up") from caught

    caught = locals_of(record_of(parent), "parent")["caught"]
    assert isinstance(caught, errors.RuntimeUserError), caught
    assert isinstance(caught, type(original))
    assert str(caught) == str(original)
    if isinstance(caught, BaseExceptionGroup):
        assert [type(each) for each in caught.exceptions] == [ValueError, KeyError]


def test_a_flyte_error_keeps_its_own_code_and_kind() -> None:
    """As Flyte says it."""

    def fails() -> None:
        raise errors.RuntimeSystemError("Disk", "full")

    record = record_of(fails)

    assert (record.code, record.kind, record.message) == ("Disk", "system", "full")


def test_source_registered_for_a_cell_is_shipped() -> None:
    """A worker has the functions of a cell, and no file with their text."""
    text = "def cell_function(x):\n    # divides\n    return x / 0\n"
    source_lines.register_source("/tmp/ipykernel_1/123.py", text)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "/tmp/ipykernel_1/123.py", "exec"), namespace)

    record = record_of(namespace["cell_function"], 3)

    assert record.frames[-1].line == "return x / 0"
    assert source_lines.Source("/tmp/ipykernel_1/123.py", 1, text, whole=True) in record.sources


REMOTE = """
    import sys, pickle, cloudpickle
    sys.path.insert(0, {root!r})
    from flyte_nb.core.failures.capture import capture
    try:
        cloudpickle.load(sys.stdin.buffer)()
    except Exception as exc:
        sys.stdout.buffer.write(capture(exc, task="t", action="a", label="t()", attempt=0).dumps())
"""


def in_another_process(function: Callable[[], object]) -> FailureRecord:
    """Run what fails in a fresh process that got it through cloudpickle, as a worker does."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REMOTE).format(root=str(ROOT))],
        input=cloudpickle.dumps(function), stdout=subprocess.PIPE, check=True, timeout=60,
    )  # fmt: skip
    return FailureRecord.loads(done.stdout)


NOTEBOOK = """
class MyError(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

class Config:
    def __init__(self):
        self.rate = 0.5
    def double(self):
        return 2 * self.rate

def fails():
    config = Config()
    raise MyError("boom", 7)
"""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The namespace of a notebook that defined classes and a function."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(NOTEBOOK, main.__dict__)
    return main.__dict__


def test_an_exception_class_of_the_notebook_comes_back_as_itself(notebook: dict[str, Any]) -> None:
    """So that ``except MyError`` matches, and the class is not touched."""
    cls, method = notebook["MyError"], notebook["MyError"].__init__

    original, _ = rebuild.rebuild(in_another_process(notebook["fails"]))

    assert type(original) is cls
    assert cls.__init__ is method
    assert (str(original), vars(original)) == ("boom", {"b": 7})


def test_objects_of_the_notebook_come_back_with_their_methods(notebook: dict[str, Any]) -> None:
    """A local of a class that was defined in a cell."""
    record = in_another_process(notebook["fails"])

    assert locals_of(record, "fails")["config"].double() == 1.0


def test_an_exception_class_that_nobody_knows_here_is_rebuilt_once() -> None:
    """Its kernel was restarted, say. Two such errors are of one class, so that ``except`` matches both."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, namespace)
    record = in_another_process(namespace["fails"])
    namespace.clear()
    gc.collect()

    first, _ = rebuild.rebuild(record)
    second, _ = rebuild.rebuild(record)

    assert type(first).__name__ == "MyError"
    assert type(first) is type(second)
    assert (str(first), vars(first)) == ("boom", {"b": 7})


def test_a_record_whose_exception_does_not_load_still_gives_an_error() -> None:
    """With its text, its code and the nearest built-in type."""
    record = record_of(failing.square, 7)._replace(exception=b"not a pickle")

    original, tb = rebuild.rebuild(record)
    error = rebuild.to_exception(record)

    assert isinstance(original, IndexError)
    assert tb is not None
    assert {IndexError, errors.RuntimeUserError} <= set(type(error).__mro__)
    assert (str(error), error.code) == ("list index out of range", "IndexError")
