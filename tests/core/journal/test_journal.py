"""The journal: written in batches, whole after a kill at any moment, bounded, private, and never in a run's way."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Attempt, ErrorNote, LogLine, Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.history.store import RunStore
from flyte_nb.core.journal import bounds, values
from flyte_nb.core.journal.format import LAYOUT, decoded, encoded
from flyte_nb.core.journal.history import History
from flyte_nb.core.journal.journal import Journal
from flyte_nb.core.journal.recorded import plain_info
from flyte_nb.core.journal.restore import restored
from flyte_nb.core.settings import notices
from flyte_nb.core.transport.blobs import content_of
from flyte_nb.core.transport.payload import Packed, dumps, loads

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
#: Times that a process is killed while it writes: more with ``KILLS=100 pytest ...``.
KILLS = int(os.environ.get("KILLS", "4"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was said once, in this test."""
    monkeypatch.setattr(notices, "_logged", set())
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("flyte").addHandler(handler)
    yield found
    logging.getLogger("flyte").removeHandler(handler)


def journal_of(folder: Path, notebook: str = "/a/notebook.ipynb", **bounds: float) -> tuple[RunStore, Journal]:
    store = RunStore()
    limits = {"max_bytes": 10**9, "max_days": 30.0, **bounds}
    return store, Journal(folder, store, notebook, **limits)  # type: ignore[arg-type]


def a_run(store: RunStore, name: str, calls: int = 3, closed: bool = True, output: Any = b"N.") -> None:
    now = time.time()
    store.append(ev.RunOpened(name, "a cell", "cell", now, "cell-1"))
    store.append(ev.ActionQueued(name, "a0", "", "cell", "cell", "", now, "root"))
    for number in range(calls):
        store.append(ev.ActionQueued(name, f"x{number}", "a0", "e.f", f"f({number})", "", now, inputs=b"I."))
        attempt = Attempt(0, now, now + 1, "tcp://w", 7, "0", 0.5, True)
        store.append(ev.ActionEnded(name, f"x{number}", 1, Phase.SUCCEEDED, now, None, False, output, "p", attempt))
    if closed:
        store.append(ev.ActionEnded(name, "a0", 1, Phase.SUCCEEDED, now))
        store.append(ev.RunClosed(name, Phase.SUCCEEDED, now))


def test_events_come_back_as_they_were_and_a_batch_makes_nothing_else():
    """Every kind of event, with and without what may be left out; a batch that names a function is refused."""
    error = ErrorNote("user", "ValueError", "no", "x.py:3", b"record", False)
    events: list[ev.Event] = [
        ev.RunOpened("r1", "t", "cell", 1.0, "id", 3, "r0"), ev.RunClosed("r1", Phase.FAILED, 2.0, error),
        ev.RunReopened("r1", 3.0), ev.RunNoted("r1", "waits"),
        ev.ActionQueued("r1", "x", "a0", "e.f", "f(1)", "g", 1.0, "task", 3, b"in"),
        ev.ActionNoted("r1", "x", 1, Phase.QUEUED, 1.5, "retrying", 1),
        ev.ActionEnded("r1", "x", 2, Phase.SUCCEEDED, 2.0, None, True, b"out", "1", Attempt(1, 1.0, 2.0, "w", 3, "0", 0.1, True)),
        ev.ActionEnded("r1", "y", 2, Phase.FAILED, 2.0, error),
        ev.AttemptStarted("r1", "x", 0, 1.0, "w", 3, "1"), ev.AttemptEnded("r1", "x", 0, 1.0, 2.0, False, error=error),
        ev.Logged("r1", "x", 0, (LogLine(1.0, "stdout", "hello"),), 4), ev.Reported("r1", "x", "main", "<b>"),
    ]  # fmt: skip

    assert [event._replace(run="k1.r1") for event in events] == decoded(encoded(events), "k1.r1")

    import zlib

    with pytest.raises(pickle.UnpicklingError, match="names"):
        decoded(zlib.compress(pickle.dumps([{}, os.system])), "r1")


def test_large_values_come_back_or_not_at_all(tmp_path: Path):
    """In one piece, with buffers, and where the pickle itself is a buffer; a damaged file is no value."""
    big = Packed(b"data", (content_of("n1", b"x" * 9), content_of("n2", b"yy")), 15)
    plain, path = b"plain", tmp_path / "values" / "1" / "x.result"
    for payload in (plain, big, big._replace(data=b"")):
        assert values.write(path, payload) == (15 if payload is not plain else 5)
        found = values.read(path)
        assert type(found) is type(payload)
        assert (found, None) == (payload, None) or [b.get() for b in found.blobs] == [b.get() for b in payload.blobs]  # type: ignore[union-attr]

    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert values.read(path) is None
    assert values.read(path.with_name("y.result")) is None


def test_a_run_is_found_by_the_next_kernel_as_it_was(folder: Path):
    """Closed and cut off; what was under way ends as lost; one of its own kernel is not among the earlier ones."""
    store, journal = journal_of(folder)
    a_run(store, "r1")
    a_run(store, "r2", closed=False)
    store.append(ev.ActionQueued("r2", "late", "a0", "e.f", "f(9)", "", time.time()))
    store.append(ev.Logged("r2", "x1", 0, (LogLine(1.0, "stdout", "token=ghp_0123456789abcdefghij"),)))
    store.append(ev.Reported("r2", "x1", "main", "<b>old</b>"))
    store.append(ev.Reported("r2", "x1", "main", "<b>new</b>"))
    journal.keep_result("r2", "x1", b"a large one")
    journal.close()

    history = History(folder)
    first, second = history.runs("/a/notebook.ipynb")
    assert ("k1.r1", "k1.r2", False, True) == (first.name, second.name, first.cut_off, second.cut_off)
    assert (3, 3, 4, 3) == (first.done, first.actions, second.actions, second.done)
    assert second.last_at == second.kernel_seen > second.seen  # its kernel lived on, though nothing happened
    assert [second] == history.cut_off("/a/notebook.ipynb")
    assert [] == history.runs("/another.ipynb")
    assert history.previous("/a/notebook.ipynb", "cell-1", "") == second

    record = restored(history, second)[0]
    assert (Phase.ABORTED, "CutOffError") == (record.state.phase, record.state.error.code)  # type: ignore[union-attr]
    assert {"x0", "x1", "x2", "late", "a0"} == set(record.actions)
    assert (Phase.SUCCEEDED, b"N.") == (record.actions["x1"].phase, record.actions["x1"].output)
    assert record.actions["late"].phase is Phase.ABORTED
    assert ["token=***"] == [line.text for line in record.logs.of("x1")]
    assert {("x1", "main"): "<b>new</b>"} == record.reports
    assert history.value(second, "x1", "result") == b"a large one"
    original = store.runs["r1"]
    again = restored(history, first)[0]
    assert [a.phase for a in original.actions.values()] == [a.phase for a in again.actions.values()]
    assert list(original.numbered) == list(again.numbered)
    for path in [*folder.rglob("*"), folder]:
        assert path.stat().st_mode & 0o077 == 0, path


WRITER = """
import sys, time
from pathlib import Path
from tests.core.journal.test_journal import a_run, journal_of
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
store, journal = journal_of(Path(sys.argv[1]), sys.argv[2])
a_run(store, "r1", calls=0, closed=False)
for number in range(100_000):
    now = time.time()
    store.append(ev.ActionQueued("r1", f"x{number}", "a0", "e.f", f"f({number})", "", now, inputs=b"I."))
    store.append(ev.ActionEnded("r1", f"x{number}", 1, Phase.SUCCEEDED, now, output=b"%d" % number))
    if number % 10 == 3:
        journal.keep_result("r1", f"x{number}", b"L" * 70_000)
    if number % 40 == 0:
        journal.flush()  # what a fifth of a second does on a machine that is not busy
        print(number, flush=True)
    time.sleep(0.001)
"""


def test_a_kill_at_any_moment_leaves_what_was_written(folder: Path):
    """The file opens, has every action up to the last write, and no half of a value."""
    chosen = random.Random(7)
    for number in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(folder), f"/{number}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            until = time.monotonic() + 0.05 + chosen.random() * 0.9
            while time.monotonic() < until:
                lines.append(process.stdout.readline())
            lines = [line for line in lines if line.strip()]
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = max(map(int, lines))
        due = {f"x{i}" for i in range(last + 1)}
        (run,) = History(folder).runs(f"/{number}")
        record = restored(History(folder), run)[0]
        assert due <= {action.name for action in record.actions.values() if action.phase is Phase.SUCCEEDED}
        for name, action in record.actions.items():
            assert action.output is None or f"x{int(action.output)}" == name
            assert History(folder).value(run, name, "result") in (None, b"L" * 70_000)


def test_old_runs_and_what_is_too_much_go_by_name(folder: Path):
    """The newest win; what went is said by name, and its files are gone."""
    store, journal = journal_of(folder, max_bytes=600_000)
    for number in range(1, 5):
        a_run(store, f"r{number}", closed=False)
        journal.flush()
        journal.keep_result(f"r{number}", "x1", b"L" * 140_000)
        store.append(ev.RunClosed(f"r{number}", Phase.SUCCEEDED, time.time()))
        journal.flush()
    a_run(store, "r5", closed=False)
    journal.keep_result("r5", "x1", b"L" * 149_000)
    journal.keep_result("r5", "x2", b"L" * 151_000)
    store.append(ev.RunClosed("r5", Phase.SUCCEEDED, time.time()))
    journal.close()

    history = History(folder)
    kept = {run.name: run for run in history.runs()}
    assert "newer runs took" in kept["k1.r1"].dropped
    assert not kept["k1.r5"].dropped
    assert not values.path_of(folder, kept["k1.r1"].row, "x1", "result").exists()
    assert history.value(kept["k1.r5"], "x1", "result") == b"L" * 149_000
    assert "larger than" in history.missing(kept["k1.r5"])["x2"]

    assert history.clear([kept["k1.r5"]]) == 1
    assert history.value(kept["k1.r5"], "x1", "result") is None

    store, journal = journal_of(folder, max_days=0.0)
    a_run(store, "r1")
    time.sleep(0.01)
    a_run(store, "r2")
    journal.close()
    assert "older than 0 days" in {run.name: run for run in History(folder).runs()}["k1.r4"].dropped


def test_files_of_a_run_go_once_it_is_dropped_for_good(folder: Path):
    """A transaction that fails leaves the run whole; a kernel that is killed behind it leaves files, which go with the next."""
    store, journal = journal_of(folder)
    a_run(store, "r1")
    journal.keep_result("r1", "x1", b"L" * 70_000)
    journal.close()
    history = History(folder)
    with contextlib.closing(sqlite3.connect(folder / LAYOUT.file_name)) as db:
        assert bounds.trim(db, folder, 0, 30.0)
        db.rollback()
        (run,) = history.runs()
        assert "" == run.dropped
        assert b"L" * 70_000 == history.value(run, "x1", "result")
        bounds.trim(db, folder, 0, 30.0)
        db.commit()
        bounds.remove(bounds.trim(db, folder, 10**9, 30.0))
    assert history.runs()[0].dropped
    assert history.value(run, "x1", "result") is None


def test_a_kernel_that_lives_hides_none_that_is_gone(folder: Path):
    """The cell's earlier run is found below many of a living kernel, and what was cut off beside a later kernel that lives."""
    store, journal = journal_of(folder)
    a_run(store, "r1", closed=False)
    journal.close()
    store, journal = journal_of(folder)
    for number in range(1, 8):
        a_run(store, f"r{number}", closed=False)
    journal.flush()

    history = History(folder)
    assert ["k1.r1"] == [run.name for run in history.cut_off("/a/notebook.ipynb")]
    found = history.previous("/a/notebook.ipynb", "cell-1", "")
    assert found is not None
    assert "k1.r1" == found.name
    assert [] == history.may_live("/a/notebook.ipynb")
    renamed = history.previous("/a/study.ipynb", "cell-1", "")
    assert renamed is not None
    assert ("k1.r1", "/a/notebook.ipynb") == (renamed.name, renamed.notebook)
    assert history.previous("/a/study.ipynb", "", "a cell") is None
    journal.close()


def test_of_a_kernel_elsewhere_it_is_said_when_its_end_is_certain(folder: Path):
    """A container that was restarted is another one: what its kernel did not see through is told apart from what it did."""
    store, journal = journal_of(folder)
    a_run(store, "r1")
    a_run(store, "r2", closed=False)
    journal.close()
    history = History(folder)
    with contextlib.closing(sqlite3.connect(folder / LAYOUT.file_name)) as db:
        db.execute("UPDATE kernels SET place = 'another', closed = NULL, seen = ?", (time.time() - 20,))
        db.commit()
        (maybe,) = history.may_live("/a/notebook.ipynb", "cell-1")
        assert "k1.r2, 'a cell', may still go on in another container or machine (last sign" in maybe.may_live_text
        assert [] == history.cut_off("/a/notebook.ipynb")
        found = history.previous("/a/notebook.ipynb", "cell-1", "")
        assert found is not None
        assert "k1.r1" == found.name

        db.execute("UPDATE kernels SET seen = ?", (time.time() - 60,))
        db.commit()
    assert [] == history.may_live("/a/notebook.ipynb")
    assert ["k1.r2"] == [run.name for run in history.cut_off("/a/notebook.ipynb")]


def test_the_latest_runs_of_other_kernels_are_listed_however_many_this_one_had(folder: Path):
    for kernel in range(2):
        store, journal = journal_of(folder)
        for number in range(2 + kernel):
            a_run(store, f"r{number}")
        journal.close()
    assert [run.name for run in History(folder).runs(limit=2, but=2)] == ["k1.r0", "k1.r1"]
    assert [run.name for run in History(folder).runs("/a/notebook.ipynb", 2)] == ["k2.r1", "k2.r2"]
    assert [] == History(folder).runs("/another.ipynb")


def test_a_journal_that_was_closed_before_its_first_run_leaves_nothing(folder: Path):
    """As with `init(history=False)` in a kernel that has begun to record."""
    store, journal = journal_of(folder)
    journal.close()
    a_run(store, "r1")
    for thread in threading.enumerate():
        if thread.name == "flyte-journal":
            thread.join(10)
    assert not folder.exists()


TROUBLES = ["a file in the way", "another version", "another program", "others can write", "garbage", "full"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_is_said_once_and_costs_the_history_only(folder: Path, said: list[str], trouble: str):
    """The run's state in this kernel is what it is without a journal."""
    path = folder / LAYOUT.file_name
    if trouble == "a file in the way":
        folder.write_text("")
    elif trouble == "garbage":
        folder.mkdir(mode=0o700)
        path.write_bytes(b"no database" * 1000)
        path.chmod(0o600)
    elif trouble == "others can write":
        folder.mkdir()
        folder.chmod(0o777)
    elif trouble != "full":
        store, journal = journal_of(folder)
        a_run(store, "r1")
        journal.close()
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99" if trouble == "another version" else "PRAGMA application_id = 5")

    store, journal = journal_of(folder)
    with no_file_over(100_000) if trouble == "full" else contextlib.nullcontext():
        for number in range(1, 4):
            a_run(store, f"r{number}", output=dumps(number))
            lines = tuple(LogLine(1.0, "stdout", os.urandom(99).hex()) for _ in range(999))
            store.append(ev.Logged(f"r{number}", "x1", 0, lines))
            journal.flush()
        journal.close()

    assert [1, 2, 3] == [loads(store.runs[f"r{n}"].actions["x1"].output) for n in range(1, 4)]  # type: ignore[arg-type]
    assert 1 == len(said), said
    words = {"garbage": "was damaged", "full": "could not be recorded"}.get(trouble, "Runs are not recorded")
    assert words in said[0]
    assert trouble in {"garbage", "full"} or [] == History(folder).runs()


@contextlib.contextmanager
def no_file_over(nbytes: int) -> Iterator[None]:
    """A disk that takes no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_two_kernels_write_at_once(folder: Path):
    """Each has its own number, and all of both is there."""
    pairs = [journal_of(folder) for _ in range(3)]
    for number in range(1, 9):
        for store, _ in pairs:
            a_run(store, f"r{number}", calls=50)
    for _, journal in pairs:
        journal.close()

    found = History(folder).runs()
    assert {1, 2, 3} == {run.kernel for run in found}
    assert [50] * 24 == [run.done for run in found]


def test_a_file_that_another_kernel_holds_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]):
    """Locked for longer than a write waits: what happens meanwhile is written afterwards, and nothing is said."""
    monkeypatch.setattr("flyte_nb.core.journal.journal.BUSY_S", 0.1)
    store, journal = journal_of(folder)
    a_run(store, "r1")
    journal.flush()
    with contextlib.closing(sqlite3.connect(folder / LAYOUT.file_name)) as other:
        other.execute("BEGIN EXCLUSIVE")
        a_run(store, "r2", calls=7)
        journal.keep_result("r2", "x1", b"L" * 70_000)
        journal.place("r2", "x2", 5_000_000)
        journal.flush()
        other.rollback()
    a_run(store, "r3")
    journal.flush()
    journal.close()

    history = History(folder)
    assert [3, 7, 3] == [run.done for run in history.runs()]
    held = history.runs()[1]
    assert b"L" * 70_000 == history.value(held, "x1", "result")
    assert held.nbytes > 5_070_000
    assert [] == said


def test_arguments_under_a_secrets_name_are_not_kept(folder: Path):
    """Neither where the label hides them, nor where the label is cut before them."""
    import flyte_nb as flyte

    env = flyte.TaskEnvironment("secrecy")

    @env.task
    def login(a: int, b: int, c: int, d: int, e: int, f: int, password: str) -> int:
        return 1

    store, journal = journal_of(folder)
    now = time.time()
    store.append(ev.RunOpened("r1", "t", "cell", now))
    store.append(
        ev.ActionQueued("r1", "x", "a0", login.name, "login(1, 2, 3, 4, 5, 6, ...)", "", now, inputs=b"hunter2")
    )
    store.append(ev.ActionQueued("r1", "y", "a0", "e.other", "other(password=***)", "", now, inputs=b"hunter2"))
    journal.close()

    record = restored(History(folder), History(folder).runs()[0])[0]
    assert [None, None] == [record.actions[name].inputs for name in "xy"]
    assert all(b"hunter2" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_neither_variables_that_cells_set_nor_secrets_of_a_run_are_kept():
    """They are for the workers of this kernel, and may be credentials."""
    info = RunInfo(name="r1", surroundings=b"AWS_SECRET=abc", env_vars=(("API_KEY", "abc"), ("MODE", "fast")))

    kept = plain_info(info)

    assert kept is not None
    assert b"abc" not in kept
    assert (("MODE", "fast"),) == pickle.loads(kept)["env_vars"]
