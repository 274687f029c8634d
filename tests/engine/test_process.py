"""The process of a worker as tasks find it: state that is their own, threads and processes that belong to them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flyte_nb as flyte
from flyte_nb.core.settings import notices
from flyte_nb.io import Dir, File
from flyte_nb.kernel.session import Session
from tests.engine.session import started

pytestmark = pytest.mark.cluster

env = flyte.TaskEnvironment("process")


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[Session]:
    """One process with one slot: whatever can meet does."""
    flyte.shutdown()
    with started(n_workers=1) as session:
        yield session


def run(task: Any, *args: Any) -> Any:
    """The value of a task."""
    return flyte.run(task, *args).outputs()[0]


def log_of(task: Any, *args: Any) -> list[tuple[str, str]]:
    """(stream, text) of what a task's root action logs."""
    started = flyte.run(task, *args)
    started.wait()
    session = Session.current
    assert session is not None
    lines: Callable[[], list[Any]] = lambda: list(session.store.runs[started.name].logs.of("a0"))  # noqa: E731
    return [(line.stream, line.text) for line in session.gateway.ask(lines)]


# -- side by side -----------------------------------------------------------------------------------------------------


@env.task
async def own_place(i: int) -> list[bool]:
    """Changes everything, and looks again after each await; so does what it gathers."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.environ["OWN"] = str(i)
    sys.path.insert(0, folder)
    random.seed(i)
    first = random.random()

    def same() -> bool:
        return (Path.cwd(), os.environ["OWN"], sys.path[0]) == (Path(folder), str(i), folder)

    async def part() -> bool:
        await asyncio.sleep(0.01)
        return same()

    found = []
    for _ in range(4):
        await asyncio.sleep(0.003 * (i % 3))
        found.append(same())
    found += await asyncio.gather(part(), part())
    second = random.random()
    again = random.Random(i)
    return [*found, [first, second] == [again.random(), again.random()]]


@env.task
async def all_own() -> list[list[bool]]:
    """Many at once."""
    return await asyncio.gather(*(own_place(i) for i in range(12)))


@env.task
def child(i: int) -> str:
    """Where it is executed, and that it has left something behind."""
    print("child", i)
    os.environ["OF_CHILD"] = "1"
    return str(Path.cwd())


@env.task
def sync_parent() -> list[Any]:
    """Waits for a child that runs in the same process."""
    before = child(0)
    os.chdir("/")
    os.environ["OF_PARENT"] = "1"
    return [before == child(1), str(Path.cwd()), os.environ["OF_PARENT"], "OF_CHILD" in os.environ]


def test_actions_that_overlap_do_not_see_each_other() -> None:
    """On one loop, in their parts as well."""
    assert all(all(found) for found in run(all_own))


def test_a_parent_and_its_child_have_their_own() -> None:
    """In two threads that take turns."""
    assert [True, "/", "1", False] == run(sync_parent)


@env.task
async def write(name: str) -> File[Any]:
    """A file of one name for all."""
    with open("same_name.txt", "w") as file:  # noqa: ASYNC230, PTH123
        file.write(name)
    return await File.from_local("same_name.txt")


@env.task
async def write_folder(name: str) -> Dir[Any]:
    """A folder of one name for all."""
    Path("folder").mkdir(exist_ok=True)
    Path("folder/same.txt").write_text(name)
    return await Dir.from_local("folder")


@env.task
async def written() -> list[str]:
    """What each reader gets."""
    files = await asyncio.gather(*(write(name) for name in "abc"))
    folders = await asyncio.gather(*(write_folder(name) for name in "def"))
    return [Path(f.path).read_text() for f in files] + [(Path(d.path) / "same.txt").read_text() for d in folders]


def test_files_are_taken_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before another action on the same worker writes them."""
    monkeypatch.chdir(tmp_path)

    assert list("abcdef") == run(written)


rng = np.random.default_rng(0)


@env.task
async def draw(_i: int) -> float:
    """Of a captured generator."""
    return float(rng.random())


@env.task
async def draw_given(own: np.random.Generator) -> float:
    """Of one that was passed."""
    return float(own.random())


@env.task
async def draw_thrice(how: str) -> list[float]:
    """Three actions."""
    if how == "captured":
        return [await draw(i) for i in range(3)]
    if how == "passed":
        return [await draw_given(rng) for _ in range(3)]
    return [await draw_given(one) for one in rng.spawn(3)]


@pytest.mark.parametrize(("how", "said"), [("captured", 1), ("passed", 1), ("spawned", 0)])
def test_equal_random_numbers_are_said(how: str, said: int, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the remedy."""
    notices._logged.clear()
    with caplog.at_level(logging.WARNING, "flyte"):
        drawn = run(draw_thrice, how)
        time.sleep(0.2)

    assert (len(set(drawn)) == 3) is not bool(said)
    assert said == sum("drew the same random numbers" in text for text in caplog.messages)


# -- the notebook's surroundings --------------------------------------------------------------------------------------


@env.task
async def look(name: str) -> Any:
    """One thing of the process."""
    with warnings.catch_warnings(record=True) as caught:
        if name == "warnings":
            warnings.warn("a warning", UserWarning, stacklevel=1)
    return {
        "cwd": str(Path.cwd()),
        "variable": os.environ.get("OF_THE_NOTEBOOK"),
        "warnings": len(caught),
        "level": logging.getLogger("of.notebook").getEffectiveLevel(),
        "divide": np.geterr()["divide"],
    }[name]


def test_surroundings_hold_in_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set after the cluster has started, and taken back."""
    assert run(look, "variable") is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_THE_NOTEBOOK", "1")
    logging.getLogger("of.notebook").setLevel(7)
    with warnings.catch_warnings(), np.errstate(divide="raise"):
        warnings.simplefilter("ignore")

        assert [str(tmp_path), "1", 0, 7, "raise"] == [
            run(look, name) for name in ("cwd", "variable", "warnings", "level", "divide")
        ]

    logging.getLogger("of.notebook").setLevel(logging.NOTSET)
    monkeypatch.delenv("OF_THE_NOTEBOOK")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert (None, 1) == (run(look, "variable"), run(look, "warnings"))


# -- logs -------------------------------------------------------------------------------------------------------------


@env.task
async def logs(how: str) -> None:
    """Logs in one of many ways."""
    logger = logging.getLogger("own")
    if how == "basicConfig":
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        logging.info("hello")  # noqa: LOG015 - what is tested
    elif how == "own handler":
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("<%(message)s>"))
        logger.addHandler(handler)
        logger.warning("hello")
    elif how == "no propagation":
        logger.propagate = False
        logger.warning("hello")
    elif how == "handler elsewhere":
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        logger.error("hello")
    elif how == "exception":
        try:
            raise ValueError("hello")
        except ValueError:
            logger.exception("failed")
    elif how == "level":
        logger.setLevel(logging.DEBUG)
        logger.debug("hello")
    elif how == "flyte":
        flyte.logger.info("hello")
    elif how == "too low":
        logger.info("hello")
    elif how == "root":
        logging.getLogger().critical("hello")
    elif how == "handler twice":
        logging.getLogger().addHandler(logging.StreamHandler())
        logger.addHandler(logging.StreamHandler())
        logger.warning("hello")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("basicConfig", [("info", "INFO: hello")]),
        ("own handler", [("warning", "<hello>")]),
        ("no propagation", [("warning", "WARNING own: hello")]),
        ("handler elsewhere", [("error", "ERROR own: hello")]),
        ("level", [("debug", "DEBUG own: hello")]),
        ("flyte", [("info", "INFO flyte.user: hello")]),
        ("too low", []),
        ("root", [("critical", "CRITICAL root: hello")]),
        ("handler twice", [("warning", "hello")] * 2),
    ],
)
def test_records_reach_the_log(how: str, expected: list[tuple[str, str]]) -> None:
    """Once, with their level, however a body sets logging up; and again after another body's set-up."""
    assert expected == log_of(logs, how)
    assert expected == log_of(logs, how)


def test_a_traceback_is_logged() -> None:
    """All of its lines."""
    found = log_of(logs, "exception")

    assert ("error", "ERROR own: failed") == found[0]
    assert ("error", "ValueError: hello") == found[-1]


# -- threads ----------------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call in a thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join()
    return found[0]


class Subclass(threading.Thread):
    """A thread with a run method of its own."""

    found: Any = None

    def run(self) -> None:
        """Call."""
        self.found = child(1)


async def _awaited(i: int) -> str:
    return await child.aio(i)


def _pool(function: Callable[[int], Any], n: int = 3) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, range(n)))


def _thread_pool(function: Callable[[int], Any]) -> list[Any]:
    from multiprocessing.pool import ThreadPool

    with ThreadPool(2) as pool:
        return pool.map(function, range(3))


def _subclass() -> list[Any]:
    thread = Subclass()
    thread.start()
    thread.join()
    return [thread.found]


def _timer() -> list[Any]:
    found: list[Any] = []
    timer = threading.Timer(0.01, lambda: found.append(child(1)))
    timer.start()
    timer.join()
    return found


#: Ways to call a task beside the body's own thread, and how many actions it makes.
CALLS: dict[str, tuple[Callable[[], list[Any]], int]] = {
    "thread": (lambda: [in_thread(child, 1)], 1),
    "thread in a thread": (lambda: [in_thread(in_thread, child, 1)], 1),
    "subclass": (_subclass, 1),
    "timer": (_timer, 1),
    "pool": (lambda: _pool(child), 3),
    "wide pool": (lambda: _pool(child, 7), 7),
    "thread pool of multiprocessing": (lambda: _thread_pool(child), 3),
    "loop in a thread": (lambda: [in_thread(asyncio.run, _awaited(1))], 1),
    "pool in a thread": (lambda: in_thread(_pool, child), 3),
    "loop that calls a thread": (lambda: [asyncio.run(asyncio.to_thread(child, 1))], 1),
}


@env.task
def calls(how: str) -> int:
    """Calls tasks."""
    return len(CALLS[how][0]())


@pytest.mark.parametrize("how", CALLS)
def test_calls_of_threads_are_actions(how: str) -> None:
    """Of the run, also where the process has one slot alone."""
    started = flyte.run(calls, how)

    assert CALLS[how][1] == started.outputs()[0]
    assert 1 + CALLS[how][1] == len(list(started.actions))


@env.task
def prints(how: str) -> None:
    """Prints, logs, and looks at its context in threads."""

    def say(_i: int = 0) -> None:
        print(flyte.ctx().action.name)
        logging.getLogger("own").warning("logged")

    {"pool": lambda: _pool(say, 1), "thread": lambda: in_thread(say)}[how]()


@pytest.mark.parametrize("how", ["pool", "thread"])
def test_threads_write_to_the_log(how: str) -> None:
    """Of their action."""
    assert [("stdout", "a0"), ("warning", "WARNING own: logged")] == log_of(prints, how)


@env.task
def busy_threads(path: str) -> None:
    """Threads that compute until they are interrupted."""

    def compute(i: int) -> None:
        try:
            while True:
                time.sleep(0.005)
        except BaseException as exc:
            Path(path, str(i)).write_text(type(exc).__name__)
            raise

    Path(path, "begun").touch()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(compute, range(2)))


def test_threads_are_interrupted_with_their_action(tmp_path: Path) -> None:
    """Before the process is replaced."""
    started = flyte.run(busy_threads, str(tmp_path))
    until = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.1)
    started.abort("enough")
    while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < until:
        time.sleep(0.02)

    assert ["CancelledError", "CancelledError"] == [(tmp_path / str(i)).read_text() for i in range(2)]


# -- processes --------------------------------------------------------------------------------------------------------


class Item:
    """A class of the program's, which child processes cannot import."""

    def __init__(self, n: int) -> None:
        self.n = n


def double(item: Item) -> Item:
    """A function of the program's."""
    return Item(item.n * 2)


def _doubled(found: Any) -> list[int]:
    return [item.n for item in found]


def _by_pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return _doubled(pool.map(double, [Item(1), Item(2)]))


def _by_executor(method: str) -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        return _doubled(pool.map(double, [Item(1), Item(2)]))


def _by_default() -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        return list(pool.map(abs, [-2, -4]))


def _put(queue: Any, value: int) -> None:
    queue.put(value)


def _by_process() -> list[int]:
    queue: Any = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=_put, args=(queue, n)) for n in (2, 4)]
    for process in processes:
        process.start()
    found = sorted(queue.get() for _ in processes)
    for process in processes:
        process.join()
    return found


def _by_loader() -> list[int]:
    """As a data loader does it: workers that wait for indices on queues, and are told to end."""
    asked: Any = multiprocessing.Queue()
    answers: Any = multiprocessing.Queue()

    def work() -> None:
        while (i := asked.get()) is not None:
            answers.put((i, i * 2))

    workers = [multiprocessing.Process(target=work, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for i in (1, 2):
        asked.put(i)
    found = dict(answers.get() for _ in range(2))
    for _ in workers:
        asked.put(None)
    return [found[1], found[2]]


def _by_fork() -> list[int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, bytes([2, 4]))
        os._exit(0)
    os.waitpid(pid, 0)
    return list(os.read(reading, 2))


def _by_subprocess() -> list[int]:
    found = subprocess.run([sys.executable, "-c", "print(2, 4)"], capture_output=True, text=True, check=True)
    return [int(n) for n in found.stdout.split()]


async def _by_loop() -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        loop = asyncio.get_running_loop()
        return _doubled(await asyncio.gather(*(loop.run_in_executor(pool, double, Item(n)) for n in (1, 2))))


def _by_manager() -> list[int]:
    with multiprocessing.Manager() as manager:
        shared = manager.list([2])
        shared.append(4)
        return list(shared)


PROCESSES: dict[str, Callable[[], list[int]]] = {
    "pool forked": lambda: _by_pool("fork"),
    "pool spawned": lambda: _by_pool("spawn"),
    "executor forked": lambda: _by_executor("fork"),
    "executor spawned": lambda: _by_executor("spawn"),
    "executor": _by_default,
    "process": _by_process,
    "loader": _by_loader,
    "fork": _by_fork,
    "subprocess": _by_subprocess,
    "loop": lambda: asyncio.run(_by_loop()),
    "manager": _by_manager,
    "in a thread": lambda: in_thread(_by_pool, "fork"),
}


@env.task
def computes_in_processes(how: str) -> list[int]:
    """In one way."""
    return PROCESSES[how]()


@pytest.mark.parametrize("how", PROCESSES)
def test_tasks_may_use_processes(how: str) -> None:
    """With functions and classes of the program's own."""
    assert [2, 4] == run(computes_in_processes, how)


def _sleep(queue: Any) -> None:
    queue.put(os.getpid())
    time.sleep(100)


@env.task
def leaves(how: str) -> int:
    """The number of a process that goes on."""
    if how == "process":
        queue: Any = multiprocessing.Queue()
        multiprocessing.Process(target=_sleep, args=(queue,)).start()
        return int(queue.get())
    if how == "fork":
        pid = os.fork()
        if pid == 0:
            time.sleep(100)
        return pid
    if how == "executor":
        pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
        found = pool.submit(os.getpid).result()
        pool.submit(time.sleep, 100)
        return found
    return subprocess.Popen(["sleep", "100"]).pid


@pytest.mark.parametrize("how", ["process", "fork", "executor", "subprocess"])
def test_processes_end_with_their_action(how: str) -> None:
    """As in a container."""
    pid = run(leaves, how)

    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


@env.task
def forks_and_returns() -> int:
    """Its child goes on with the body, as if there were two workers."""
    pid = os.fork()
    if pid == 0:
        return 1
    os.waitpid(pid, 0)
    return 2


def test_a_child_that_returns_ends() -> None:
    """The result is the parent's, once."""
    assert [2, 2] == [run(forks_and_returns) for _ in range(2)]


@env.task
def writes(how: str) -> None:
    """To the file descriptors, by different ways."""
    if how == "subprocess":
        subprocess.run(["echo", "hello"], check=True)
    elif how == "shell":
        os.system("echo hello 1>&2")
    elif how == "descriptor":
        os.write(1, b"hello\n")
    elif how == "partial":
        os.write(2, b"hello")
    elif how == "C":
        ctypes.CDLL(None).puts(b"hello")
    elif how == "child":
        pid = os.fork()
        if pid == 0:
            print("hello")
            os._exit(0)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("how", "stream"),
    [
        ("subprocess", "stdout"),
        ("shell", "stderr"),
        ("descriptor", "stdout"),
        ("partial", "stderr"),
        ("C", "stdout"),
        ("child", "stdout"),
    ],
)
def test_what_is_written_beside_python_is_in_the_log(how: str, stream: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Of the one action that is under way; never raw in a cell."""
    assert [(stream, "hello")] == log_of(writes, how)
    assert "hello" not in capfd.readouterr().out
