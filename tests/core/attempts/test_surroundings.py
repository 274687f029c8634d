"""What cells set up in their process, as it is taken down and as a worker takes it."""

from __future__ import annotations

import contextvars
import decimal
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn

from flyte_nb.core.attempts import surroundings
from flyte_nb.core.attempts.surroundings import process


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session has begun; whatever a test sets up is undone."""
    monkeypatch.setattr(surroundings, "_home", type(surroundings._home)())
    before = process.read()
    with warnings.catch_warnings(), decimal.localcontext(), np.errstate(), np.printoptions():
        surroundings.begin(here=True)
        yield
    sklearn.set_config(transform_output="default")
    process.apply(process.read(), before)


def taken(data: bytes, base: process.State) -> surroundings.Applied:
    """As a worker with this base takes it; what belongs to a context is set in the calling one."""
    found = surroundings.applied(data, base)
    assert found.enter is not None
    contextvars.Context().run(found.enter)
    return found


def _in_context(look: Callable[[], Any]) -> Callable[[bytes, process.State], Any]:
    def found(data: bytes, base: process.State) -> Any:
        variables = contextvars.Context()
        enter = surroundings.applied(data, base).enter
        assert enter is not None
        variables.run(enter)
        return variables.run(look)

    return found


def _of_state(look: Callable[[process.State], Any]) -> Callable[[bytes, process.State], Any]:
    def found(data: bytes, base: process.State) -> Any:
        state = surroundings.applied(data, base).state
        assert state is not None
        return look(state)

    return found


def _level(name: str) -> Callable[[bytes, process.State], Any]:
    return _of_state(lambda state: state.logs.loggers[name][0])


def _variable(name: str) -> Callable[[bytes, process.State], Any]:
    return _of_state(lambda state: state.environ.get(os.environ.encodekey(name)))


#: What a cell does, where it is looked for in a task, and what is found.
CASES: dict[str, tuple[Callable[[], object], Callable[[bytes, process.State], Any], Any]] = {
    "working directory": (lambda: os.chdir("/"), _of_state(lambda s: s.cwd), "/"),
    "variable set": (lambda: os.environ.update(A_KEY="k"), _variable("A_KEY"), b"k"),
    "variable deleted": (lambda: os.environ.pop("HOME"), _variable("HOME"), None),
    "path": (lambda: sys.path.append("/a/folder"), _of_state(lambda s: "/a/folder" in s.path), True),
    "filter": (
        lambda: warnings.filterwarnings("ignore", message="boo"),
        _of_state(lambda s: (s.filters[0][0], s.filters[0][1].pattern)),
        ("ignore", "boo"),
    ),
    "all ignored": (
        lambda: warnings.simplefilter("ignore"),
        _of_state(lambda s: s.filters[0]),
        ("ignore", None, Warning, None, 0),
    ),
    "filters reset": (warnings.resetwarnings, _of_state(lambda s: s.filters), []),
    "root level": (lambda: logging.getLogger().setLevel(logging.INFO), _level(""), logging.INFO),
    "level of a logger": (lambda: logging.getLogger("a.b").setLevel(5), _level("a.b"), 5),
    "logging disabled": (lambda: logging.disable(30), _of_state(lambda s: s.logs.disable), 30),
    "precision": (
        lambda: setattr(decimal.getcontext(), "prec", 50),
        _in_context(lambda: decimal.getcontext().prec),
        50,
    ),
    "rounding": (
        lambda: setattr(decimal.getcontext(), "rounding", decimal.ROUND_UP),
        _in_context(lambda: decimal.getcontext().rounding),
        decimal.ROUND_UP,
    ),
    "numpy errors": (lambda: np.seterr(all="raise"), _in_context(lambda: np.geterr()["under"]), "raise"),
    "numpy print": (
        lambda: np.set_printoptions(precision=3),
        _in_context(lambda: np.get_printoptions()["precision"]),
        3,
    ),
    "pandas": (
        lambda: pd.set_option("display.max_rows", 7),
        _of_state(lambda s: s.options.changed["pandas"]["display.max_rows"]),
        7,
    ),
    "options of a thread": (
        lambda: sklearn.set_config(transform_output="pandas"),
        _of_state(lambda s: s.options.changed["sklearn"]),
        {"transform_output": "pandas"},
    ),
    "recursion limit": (
        lambda: sys.setrecursionlimit(4321),
        _of_state(lambda s: s.options.changed["recursion limit"]),
        4321,
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_a_cell_sets_up_holds_in_tasks(what: str) -> None:
    """Each kind, set after the cluster has started."""
    base = process.read()
    act, look, expected = CASES[what]

    act()

    assert expected == look(surroundings.capture(), base)


def test_what_is_as_before_again_is_sent_as_well() -> None:
    """A worker that started meanwhile has the value in between."""
    os.environ["FOR_A_WHILE"] = "1"
    surroundings.capture()
    del os.environ["FOR_A_WHILE"]
    base = process.read()
    base.environ[b"FOR_A_WHILE"] = b"1"

    assert _variable("FOR_A_WHILE")(surroundings.capture(), base) is None


@pytest.mark.parametrize(
    ("name", "sent"), [("MY_KEY", True), ("PATH", False), ("HOME", False), ("LD_PRELOAD", False), ("PYTHONPATH", False)]
)
def test_another_machine_gets_what_makes_sense_there(name: str, sent: bool) -> None:
    """A cluster that was attached to: no variables of this machine, no folder that is not there."""
    surroundings.begin(here=False)
    os.environ[name] = "/somewhere"
    sys.path.append("/not/there")
    base = process.read()._replace(environ={}, path=[], cwd="/tmp")

    data = surroundings.capture()

    assert (_variable(name)(data, base) is not None) is sent
    state = surroundings.applied(data, base).state
    assert state is not None
    assert "/not/there" not in state.path
    assert "/tmp" == state.cwd


def test_categories_that_are_not_imported_there_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come as soon as they are."""
    (tmp_path / "has_warning.py").write_text("class Mine(UserWarning):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("has_warning")
    warnings.filterwarnings("ignore", category=module.Mine)
    data, base = surroundings.capture(), process.read()

    monkeypatch.delitem(sys.modules, "has_warning")
    assert "Mine" not in str(_of_state(lambda s: s.filters[0])(data, base))
    assert surroundings.applied(data, base) is surroundings.applied(data, base)  # else attempts count as changed
    monkeypatch.setitem(sys.modules, "has_warning", module)
    assert module.Mine is _of_state(lambda s: s.filters[0][2])(data, base)


def test_threads_that_take_a_record_at_once_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One comes while another makes it: attempts with another object than theirs would count as changed."""
    data, base, overlay = surroundings.capture(), process.read(), surroundings._overlay
    others: list[Any] = []

    def overtaken(*args: Any) -> process.State:
        if not others:
            others.append(None)
            others[0] = surroundings.applied(data, base)
        return overlay(*args)

    monkeypatch.setattr(surroundings, "_overlay", overtaken)

    assert surroundings.applied(data, base) is others[0]


#: What a cell may do between two calls.
CHANGES: dict[str, Callable[[], object]] = {
    "variable": lambda: os.environ.update(A_KEY="2"),
    "variable deleted": lambda: os.environ.pop("HOME"),
    "working directory": lambda: os.chdir("/"),
    "path": lambda: sys.path.append("/a"),
    "filters": lambda: warnings.simplefilter("error"),
    "level of the root": lambda: logging.getLogger().setLevel(3),
    "level of a logger": lambda: logging.getLogger("seen.by.call").setLevel(3),
    "disabled": lambda: logging.disable(3),
    "precision": lambda: setattr(decimal.getcontext(), "prec", 5),
    "traps": lambda: decimal.getcontext().traps.__setitem__(decimal.FloatOperation, True),
    "numpy errors": lambda: np.seterr(all="ignore"),
    "numpy printing": lambda: np.set_printoptions(precision=2),
    "pandas": lambda: pd.set_option("display.max_rows", 3),
    "options of a thread": lambda: sklearn.set_config(transform_output="pandas"),
    "recursion limit": lambda: sys.setrecursionlimit(4322),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen_before_a_call(what: str) -> None:
    """By what is looked at before each."""
    seen, other = surroundings.Seen(), surroundings.Seen()
    assert seen.same()
    assert other.same()

    CHANGES[what]()

    assert not seen.same()
    assert surroundings.Seen().same()
    assert not other.same()
