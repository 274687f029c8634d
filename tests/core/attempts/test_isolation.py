"""Attempts of one process do not see what others change of it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import functools
import io
import locale
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
import sklearn

from flyte_nb.core.attempts import isolation
from flyte_nb.core.attempts.body import Steps
from flyte_nb.core.attempts.isolation import Isolation, Place
from flyte_nb.core.attempts.meter import Meter
from flyte_nb.core.attempts.surroundings import library_options, process, thread_options


class NotingMeter(Meter):
    """Notes when its attempt waits."""

    def __init__(self) -> None:
        super().__init__(time.perf_counter)
        self.notes: list[str] = []

    def paused(self) -> None:
        self.notes.append("paused")

    def resumed(self, body: object) -> None:
        self.notes.append("resumed")


class FakeBody:
    """An attempt: it has its share of the process."""

    def __init__(self, isolated: Isolation) -> None:
        self.place = Place(isolated.begin())
        self.meter = NotingMeter()


@pytest.fixture
def isolated(tmp_path: Path) -> Iterator[Isolation]:
    """The isolation of this process, which is left as it was."""
    before = process.read()
    os.chdir(tmp_path)
    with warnings.catch_warnings():
        yield Isolation()
    process.apply(process.read(), before)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _tz() -> str:
    return time.tzname[0]


def _set_tz() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _set_path() -> None:
    sys.path = ["/elsewhere"]


class _Logger(logging.Logger):
    """A program's own."""


#: What a body changes, and where it is seen.
CHANGES: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
    "working directory": (lambda: os.chdir("/"), os.getcwd),
    "variable set": (lambda: os.environ.update(NEW_ONE="1"), lambda: os.environ.get("NEW_ONE")),
    "variable deleted": (lambda: os.environ.pop("HOME"), lambda: os.environ.get("HOME")),
    "variable of C": (
        lambda: os.environ.update(NEW_ONE="1"),
        lambda: subprocess.check_output("echo $NEW_ONE", shell=True),
    ),
    "time zone": (_set_tz, _tz),
    "path extended": (lambda: sys.path.insert(0, "/somewhere"), lambda: list(sys.path)),
    "path replaced": (_set_path, lambda: list(sys.path)),
    "umask": (lambda: os.umask(0o027), _umask),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)),
    "filters": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "filters reset": (warnings.resetwarnings, lambda: list(warnings.filters)),
    "level of the root": (lambda: logging.getLogger().setLevel(3), lambda: logging.getLogger().level),
    "level of a logger": (lambda: logging.getLogger("iso").setLevel(3), lambda: logging.getLogger("iso").level),
    "handler": (
        lambda: logging.getLogger("iso").addHandler(logging.NullHandler()),
        lambda: list(logging.getLogger("iso").handlers),
    ),
    "basicConfig": (
        lambda: logging.basicConfig(level=3, force=True),
        lambda: (logging.getLogger().level, list(logging.getLogger().handlers)),
    ),
    "output redirected": (lambda: setattr(sys, "stdout", io.StringIO()), lambda: sys.stdout),
    "input": (lambda: setattr(sys, "stdin", io.StringIO("a")), lambda: sys.stdin),
    "hook of errors": (lambda: setattr(sys, "excepthook", print), lambda: sys.excepthook),
    "arguments": (lambda: setattr(sys, "argv", ["a", "b"]), lambda: list(sys.argv)),
    "arguments in place": (lambda: sys.argv.append("--last"), lambda: list(sys.argv)),
    "warnings logged": (lambda: logging.captureWarnings(True), lambda: warnings.showwarning),
    "factory of records": (
        lambda: logging.setLogRecordFactory(logging.LogRecord),
        logging.getLogRecordFactory,
    ),
    "class of loggers": (lambda: logging.setLoggerClass(_Logger), logging.getLoggerClass),
    "logging disabled": (lambda: logging.disable(50), lambda: logging.getLogger().manager.disable),
    "recursion limit": (lambda: sys.setrecursionlimit(4_321), sys.getrecursionlimit),
    "digits of integers": (lambda: sys.set_int_max_str_digits(9_999), sys.get_int_max_str_digits),
    "size of fields": (lambda: csv.field_size_limit(2**20), csv.field_size_limit),
    "patience of sockets": (lambda: socket.setdefaulttimeout(3), socket.getdefaulttimeout),
    "options of pandas": (
        lambda: pd.set_option("display.max_rows", 3, "display.precision", 2),
        lambda: (pd.get_option("display.max_rows"), pd.get_option("display.precision")),
    ),
    "options of pandas, by attribute": (
        lambda: setattr(pd.options.display, "max_columns", 4),
        lambda: pd.options.display.max_columns,
    ),
    "settings of matplotlib": (
        lambda: mpl.rcParams.update({"lines.linewidth": 7, "figure.figsize": (1, 2)}),
        lambda: (mpl.rcParams["lines.linewidth"], list(mpl.rcParams["figure.figsize"])),
    ),
    "a style": (
        lambda: mpl.style.use("ggplot"),
        lambda: (mpl.rcParams["axes.facecolor"], mpl.rcParams["axes.prop_cycle"]),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_body_changes_is_its_own(isolated: Isolation, what: str) -> None:
    """Gone at its end and in the turns of others, back in its own."""
    change, look = CHANGES[what]
    if what == "locale":
        locale.setlocale(locale.LC_ALL, "C")
        isolated = Isolation()
    before = look()
    one, other = FakeBody(isolated), FakeBody(isolated)

    isolated.turn(one)
    change()
    changed = look()
    isolated.turn(other)
    assert before == look()
    isolated.turn(one)
    assert changed == look() != before
    isolated.end(one)
    assert before == look()
    isolated.turn(other)
    isolated.end(other)
    assert before == look()


def test_timers_blocked_signals_and_modules_made_by_hand_end_with_a_body(isolated: Isolation) -> None:
    """A timer would end a later attempt with its whole process. What a body imports stays, with what that registers."""
    body = FakeBody(isolated)
    isolated.turn(body)
    signal.alarm(1_000)
    signal.setitimer(signal.ITIMER_PROF, 1_000)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    sys.modules["made_by_hand"] = sys.modules["made_by_hand.part"] = types.ModuleType("made_by_hand")
    sys.modules["not_to_be_imported"] = None  # type: ignore[assignment]
    sys.modules["this.part"] = types.ModuleType("this.part")
    with contextlib.redirect_stdout(io.StringIO()):
        __import__("this")
    isolated.end(body)

    assert [(0.0, 0.0)] * 2 == [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)]
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not {"made_by_hand", "made_by_hand.part", "not_to_be_imported"} & sys.modules.keys()
    assert {"this", "this.part"} <= sys.modules.keys()
    del sys.modules["this"], sys.modules["this.part"]
    process.SIGNALS.clear()


SEEDS: dict[str, tuple[Callable[[], object], Callable[[], float]]] = {
    "random": (lambda: random.seed(1), random.random),
    "numpy": (lambda: np.random.seed(1), lambda: float(np.random.random())),  # noqa: NPY002
    "numpy state": (lambda: np.random.set_state(np.random.RandomState(1).get_state()), np.random.random),  # noqa: NPY002
    "random state": (lambda: random.setstate(random.Random(1).getstate()), random.random),
}


@pytest.mark.parametrize("what", SEEDS)
def test_a_seed_is_its_attempts(isolated: Isolation, what: str) -> None:
    """Its sequence goes on at its turns; others draw other numbers, before and after."""
    seed, draw = SEEDS[what]
    seed()
    expected = [draw() for _ in range(4)]
    one, other = FakeBody(isolated), FakeBody(isolated)

    isolated.turn(one)
    seed()
    got = [draw(), draw()]
    isolated.turn(other)
    others = [draw(), draw()]
    isolated.turn(one)
    got += [draw(), draw()]
    isolated.end(one)
    after = [draw() for _ in range(4)]

    assert got == expected
    assert not set(others) & set(expected)
    assert not set(after) & set(expected)


@pytest.mark.usefixtures("isolated")
def test_without_a_seed_numbers_go_on() -> None:
    """Actions that seed nothing are plain, and do not draw the same numbers; nor do processes that are forks of one."""
    np.random.seed(1)  # noqa: NPY002 - what forks have alike
    alike = np.random.random(5)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    isolated = Isolation()
    drawn = list[float]()
    for _ in range(5):
        body = FakeBody(isolated)
        isolated.turn(body)
        drawn += [random.random(), np.random.random()]  # noqa: NPY002
        isolated.pause(body)
        assert body.place.state is body.place.base  # else none beside it could compute
        assert body.place.random is None
        isolated.end(body)

    assert len(set(drawn)) == 10
    assert not set(drawn) & set(alike)


def test_those_that_compute_at_once_share(isolated: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken away from a body that computes on another thread; at the last one's end all is as before."""
    monkeypatch.setattr(isolation, "PATIENCE", 0.01)
    one, other = FakeBody(isolated), FakeBody(isolated)
    before = Path.cwd()
    one.place.computes = lambda: True

    isolated.turn(one)
    os.chdir("/")
    isolated.turn(other)
    assert Path("/") == Path.cwd()
    assert (one.meter.notes, other.meter.notes) == ([], ["paused", "resumed"])  # who waits does not compute
    isolated.end(one)
    isolated.end(other)

    assert before == Path.cwd()


def test_two_that_exclude_each_other_never_compute_at_once_and_both_go_on(
    isolated: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However closely others follow, which may share with those that compute, and whoever waits in between."""
    monkeypatch.setattr(isolation, "LOOK_EVERY", 0)
    monkeypatch.setattr(isolation, "PATIENCE", 60.0)
    computing, turning, seen = dict[FakeBody, str](), set[FakeBody](), set[str]()
    left = dict.fromkeys(range(4), 300)

    def computes(body: FakeBody) -> bool:
        return body in turning or body in computing  # in the order in which it moves on

    def lane(number: int, patch: str) -> None:
        while any(left.values()):  # until each has done all of its own
            body = FakeBody(isolated)
            body.place.patched = patch
            body.place.computes = functools.partial(computes, body)
            for _ in range(2):  # in between it has no slot
                turning.add(body)
                isolated.turn(body)
                computing[body] = patch
                turning.discard(body)
                until = time.perf_counter() + 0.0001
                while time.perf_counter() < until:
                    seen.update(f"{patch} beside {other}" for other in list(computing.values()) if other != patch)
                del computing[body]
            isolated.end(body)
            left[number] = max(left[number] - 1, 0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        lanes = [threading.Thread(target=lane, args=(number, patch)) for number, patch in enumerate("aaab")]
        for each in lanes:
            each.start()
        for each in lanes:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert not seen


def test_what_libraries_set_up_at_their_import_stays(isolated: Isolation, tmp_path: Path) -> None:
    """They are imported once in a process: the next attempt would be without it."""
    (tmp_path / "a_library.py").write_text(
        "import logging, warnings\nlogging.getLogger('a_library').setLevel(7)\n"
        "warnings.filterwarnings('ignore', module='a_library')\n"
    )
    body = FakeBody(isolated)
    isolated.turn(body)
    sys.path.insert(0, str(tmp_path))
    __import__("a_library")
    warnings.filterwarnings("ignore", message="of the body's own")
    isolated.end(body)

    texts = [str(item) for item in warnings.filters]
    assert logging.getLogger("a_library").level == 7
    assert any("a_library" in text for text in texts)
    assert not any("of the body's own" in text for text in texts)
    assert str(tmp_path) not in sys.path


def test_who_begins_with_what_a_notebook_has_set_up_is_plain_until_it_changes_something(isolated: Isolation) -> None:
    """As all attempts of a notebook do: calls that are alike go on being executed in a loop."""
    body = FakeBody(isolated)
    begun = isolated.begin()
    body.place = Place(begun._replace(path=[*begun.path, "/a/notebook"], options=library_options.Options({})))
    isolated.turn(body)
    assert isolated.is_plain(body)
    sys.path.append("/somewhere")
    assert not isolated.is_plain(body)
    isolated.end(body)


def test_what_is_done_between_attempts_stays(isolated: Isolation) -> None:
    """Cells that run everywhere."""
    isolated.rebase(lambda: os.environ.update(STAYS="1"))
    body = FakeBody(isolated)
    isolated.turn(body)
    isolated.end(body)

    assert "1" == os.environ["STAYS"]
    with contextlib.suppress(KeyError):
        del os.environ["STAYS"]
    assert "<Isolation [between attempts]>" == repr(isolated)


@pytest.mark.parametrize("change", CHANGES)
def test_what_others_change_between_attempts_stays(tmp_path: Path, change: str) -> None:
    """On a worker that others use, too; also when its kernels have left. What attempts change does not."""
    before = process.read()
    os.chdir(tmp_path)
    act, see = CHANGES[change]
    with warnings.catch_warnings():
        isolated = Isolation(shared=True)
        os.environ["ALREADY"] = "theirs"
        act()
        seen = see()
        for _ in range(2):
            body = FakeBody(isolated)
            isolated.turn(body)
            assert seen == see()
            os.environ.update(ALREADY="ours", OURS="1")
            sys.path.insert(0, "/ours")
            isolated.end(body)
        isolated.close()
        assert (seen, "theirs", None) == (see(), os.environ.get("ALREADY"), os.environ.get("OURS"))
        assert "/ours" not in sys.path
        process.apply(process.read(), before)


def test_options_of_a_thread_are_its_attempts_own(isolated: Isolation) -> None:
    """Those that take turns on a thread do not see each other's; nor does the next one that begins there."""

    def shown() -> object:
        return sklearn.get_config()["print_changed_only"]

    async def steps(value: object) -> list[object]:
        found = [shown()]
        sklearn.set_config(print_changed_only=value)
        for _ in range(2):
            await asyncio.sleep(0)
            found.append(shown())
        return found

    class Turns:
        """An attempt, as far as its steps need one."""

        def __init__(self) -> None:
            self.meter, self.activate, self.isolation, self.patches = NotingMeter(), None, None, None
            self.of_thread: list[object] = []

    async def both() -> list[list[object]]:
        first, second = Turns(), Turns()
        one: Any = Steps(first, steps(value=False))  # type: ignore[arg-type]
        two: Any = Steps(second, steps(value="no"))  # type: ignore[arg-type]
        return list(await asyncio.gather(one, two))

    thread_options.imported()
    assert asyncio.run(both()) == [[True, False, False], [True, "no", "no"]]
    assert shown() is True
    body = FakeBody(isolated)
    isolated.turn(body)
    sklearn.set_config(print_changed_only=False)
    isolated.end(body)
    assert shown() is True
