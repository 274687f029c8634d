"""Threads and processes that a body starts belong to its attempt. Runs in: worker process; local mode.

A thread runs in a copy of the context of the code that started it, a pool's work item in that of the code that submitted it:
what they print and log, the tasks that they call and ``ctx()`` are the attempt's. They are interrupted with it. Processes end
with it: as in a container, which nothing outlives.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import functools
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from flyte_nb.core.attempts import output
from flyte_nb.core.attempts.replaced import Replaced
from flyte_nb.core.attempts.threads import interrupt_thread
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.values.user_code import is_user_code

#: Seconds that child processes have to end after SIGTERM, all together; then they are killed.
END_WITHIN = 1.0


#: Modules whose threads draw: where output is no terminal, nothing of it is printed before its end.
DRAWS = frozenset({"rich.live"})


def _checkpoint() -> None:
    """Where Python raises an interrupt that was on its way to this thread."""


class Family:
    """What one attempt has started, and is not over. Made when it starts something: most attempts do not.

    Args:
        keep: Whether processes and threads outlive it: those of a warm environment (`ReusePolicy`).
    """

    __slots__ = ("_keep", "_lock", "_processes", "_threads", "drawing", "stopped")

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        #: Threads that run code of it, by number: whether they are to end with it.
        self._threads: dict[int, bool] = {}
        self._processes: list[Any] = []
        self.stopped: bool = False
        #: The latest of its threads that draws a display again and again (`DRAWS`).
        self.drawing: threading.Thread | None = None

    def within(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function as a part of the attempt, in another thread than its own."""
        return self._within(False, function, *args, **options)

    def _within(self, daemon: bool, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        me = threading.get_ident()
        with self._lock:
            if self.stopped:
                raise asyncio.CancelledError("its action was stopped")
            nested = me in self._threads
            self._threads.setdefault(me, daemon)
        try:
            return function(*args, **options)
        finally:
            while not nested:
                try:
                    with self._lock:
                        self._threads.pop(me, None)
                    _checkpoint()
                    break
                except asyncio.CancelledError:
                    continue

    def interrupt(self) -> None:
        """Have its threads end; what is submitted from now on does not begin."""
        with self._lock:
            self.stopped = True
            for number in self._threads:
                interrupt_thread(number, asyncio.CancelledError)

    def started(self, process: Any) -> None:
        """A child process: a `multiprocessing` one, a `subprocess.Popen`, or the number of one that was forked."""
        self._processes.append(process)

    def end(self) -> None:
        """The attempt has ended: so do its processes, and the daemon threads of the user's own."""
        if self._keep:
            return
        if self._threads:
            with self._lock:
                for number, daemon in self._threads.items():
                    if daemon and number != threading.get_ident():
                        self.stopped = True
                        interrupt_thread(number, asyncio.CancelledError)
        if self._processes:
            _end_pool_of_joblib()
            end_processes(self._processes)
            _end_fork_server()


class Lane(Protocol):
    """The thread that executes attempts: a worker's (`flyte_nb.worker.lanes.lane`)."""

    #: Of its slot.
    holder: Any
    #: Environment variables of its attempts.
    environment: dict[str, str]

    def before_threads(self) -> None:
        """An attempt is about to start a thread, or to give one work."""

    def see(self) -> None:
        """The row that is under way, if one is, is an attempt like any other from now on."""

    def computes_elsewhere(self) -> bool:
        """Whether it has its slot, and is not the calling thread."""


class Attempt(Protocol):
    """An attempt, as code of it finds it: `flyte_nb.core.attempts.body.Body`."""

    lane: Lane | None

    @property
    def family(self) -> Family:
        """What it has started."""


#: The attempt that the running code belongs to; None outside one. Weak: it refers to its context, which would keep it.
OWNER: contextvars.ContextVar[weakref.ref[Any] | None] = contextvars.ContextVar("flyte_nb_owner", default=None)


def running() -> Any:
    """The attempt that the running code belongs to, an `Attempt`; None outside one."""
    owner = OWNER.get()
    return owner() if owner is not None else None


#: In a child process that a body forked: its attempt.
_forked: Any = None


def executed() -> Any:
    """The attempt whose code runs, also in a child process that it forked; None outside one."""
    return running() or _forked


def _family() -> Family | None:
    """Of the running attempt, which starts something in another thread or process."""
    attempt: Attempt | None = running()
    if attempt is None:
        return None
    if attempt.lane is not None:
        attempt.lane.before_threads()
    return attempt.family


def end_processes(processes: list[Any]) -> None:
    """End processes: by SIGTERM, then by SIGKILL."""
    alive = [process for process in processes if _is_alive(process)]
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        for process in alive:
            with contextlib.suppress(OSError, ValueError):
                os.kill(_pid(process), number)
        until = time.monotonic() + END_WITHIN
        while alive and time.monotonic() < until:
            alive = [process for process in alive if _is_alive(process)]
            if alive:
                time.sleep(0.005)
    processes.clear()


def _end_pool_of_joblib() -> None:
    """End the processes that joblib keeps for its next call, in its own way: it would not notice their end at once."""
    module: Any = sys.modules.get("joblib.externals.loky.reusable_executor")
    with contextlib.suppress(Exception):
        if module is not None and module._executor is not None:  # noqa: SLF001 - there is no way to ask without making one
            module._executor.shutdown(wait=True, kill_workers=True)  # noqa: SLF001


def _end_fork_server() -> None:
    """End the process that "forkserver" forks from, which has the environment and the folder of who used it first."""
    module: Any = sys.modules.get("multiprocessing.forkserver")
    children: list[Any] = multiprocessing.active_children()
    used = any(getattr(child._popen, "method", "") == "forkserver" for child in children)  # noqa: SLF001 - another attempt's
    with contextlib.suppress(Exception):
        if module is not None and not used:
            module._forkserver._stop()  # noqa: SLF001 - Python's own tests end it so; it starts again when it is needed


def _pid(process: Any) -> int:
    return process if isinstance(process, int) else int(process.pid)


def _is_alive(process: Any) -> bool:
    try:
        if isinstance(process, int):
            return os.waitpid(process, os.WNOHANG)[0] == 0
        if hasattr(process, "poll"):
            return process.poll() is None
        return bool(process.is_alive())
    except (OSError, ValueError, AssertionError):
        return False


# -- what starts threads and processes --------------------------------------------------------------------------------

_start_thread = threading.Thread.start
_submit = ThreadPoolExecutor.submit
_start_process = multiprocessing.process.BaseProcess.start
#: Set while a thread starts a process, which forks.
_starting = threading.local()


def _thread_start(self: threading.Thread) -> None:
    family = _family()
    if family is None:
        return _start_thread(self)
    if type(self).__module__ in DRAWS:
        family.drawing = self
    target = getattr(self, "_target", None)
    if getattr(target, "__module__", "") == "concurrent.futures.thread":
        return _start_thread(self)  # a pool's: its work items bring their contexts
    variables, run = contextvars.copy_context(), self.run
    own = target if target is not None else type(self)
    users = is_user_code(own) if hasattr(own, "__module__") else False

    def run_within() -> None:
        with contextlib.suppress(*([asyncio.CancelledError] if users else [])):
            if users:
                variables.run(family._within, self.daemon, run)  # noqa: SLF001 - of this file
            else:  # a library's own thread may serve the whole process, as fsspec's does
                variables.run(run)

    self.run = run_within  # type: ignore[method-assign]
    return _start_thread(self)


def _pool_submit(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    family = _family()
    if family is None:
        return _submit(self, function, *args, **options)
    return _submit(self, contextvars.copy_context().run, family.within, function, *args, **options)


def _process_start(self: Any) -> None:
    family = _family()
    _starting.process = True
    try:
        _start_process(self)
    finally:
        _starting.process = False
    if family is not None:
        family.started(self)


def _forking(fork: Callable[[], int]) -> Callable[[], int]:
    def call() -> int:
        pid = fork()
        family = _family() if pid else None
        if family is not None and not getattr(_starting, "process", False):
            family.started(pid)
        return pid

    return call


def _opening(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def call(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        family = _family()
        if family is not None:
            family.started(self)

    return call


_installed: set[str] = set()
_replaced = Replaced()


def install(*, processes: bool) -> None:
    """Have threads, and processes, belong to the attempt that starts them. Idempotent.

    Args:
        processes: Whether processes, too: not in the user's own process, which local mode runs in.
    """
    if "threads" not in _installed:
        _installed.add("threads")
        _replaced.put(threading.Thread, "start", _thread_start)
        _replaced.put(ThreadPoolExecutor, "submit", _pool_submit)
    if processes and "processes" not in _installed:
        _installed.add("processes")
        _replaced.put(multiprocessing.process.BaseProcess, "start", _process_start)
        import subprocess

        _replaced.put(subprocess.Popen, "__init__", _opening(subprocess.Popen.__init__))
        if hasattr(os, "fork"):
            global _lifeline
            _lifeline = os.pipe()
            _replaced.put(os, "fork", _forking(os.fork))
            if "at_fork" not in _installed:
                _installed.add("at_fork")
                os.register_at_fork(after_in_child=_in_child)


def uninstall() -> None:
    """Take it back. Children that are left end."""
    global _lifeline
    _replaced.restore()
    _installed.intersection_update({"at_fork"})  # which cannot be taken back, and does nothing outside attempts
    if _lifeline is not None:
        for end in _lifeline:
            os.close(end)
        _lifeline = None


def _in_child() -> None:
    """A body forked: in its child the attempt's context is no more, and output goes to the file descriptors."""
    global _forked
    if (attempt := running()) is None:
        return
    _forked = attempt
    OWNER.set(None)
    ctx.enter(None)  # a task that is called is a plain function: the way to the controller ends in the parent
    output.OUTPUT.set(None)
    output.leave_to_descriptors()
    _end_with_parent()


#: A pipe whose writing end this process alone has, so that its children see the end of it.
_lifeline: tuple[int, int] | None = None


def _end_with_parent() -> None:
    """Have this child end when its parent is no more."""
    # ``PR_SET_PDEATHSIG`` would go by the thread that forked, which may end before.
    if _lifeline is not None:
        os.close(_lifeline[1])
        _thread.start_new_thread(_watch_parent, (_lifeline[0],))


def _watch_parent(reading: int) -> None:
    with contextlib.suppress(OSError):
        os.read(reading, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def leave_child(ok: bool) -> None:
    """End a child process that ran on beyond the body that forked it."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0 if ok else 1)
