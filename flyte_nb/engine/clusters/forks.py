"""Forks: worker processes forked from one that has imported what they need. Runs in: kernel; worker processes.

A spawned worker imports Dask and this package for 0.6 s of a core, and so do its mates beside it, and whatever replaces one.
The source of forks imports it once, begun first thing as a session starts. It is multiprocessing's own fork server, one beside
the user's, with a single thread, and executes no code of a user's. A fork gets the environment, folder and import path that the
kernel has at that moment. Where there is no source (another system than Linux, whose libraries may start threads that a fork
does not survive; no more processes or descriptors) workers are spawned.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import (
    context,
    forkserver,
    popen_forkserver,
    popen_spawn_posix,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.connection import wait
from typing import Any

from flyte_nb.core.transport.process_folder import session_folder
from flyte_nb.engine.clusters.caretaker import CARETAKER, lead_group

#: What Dask puts into the environment of new workers, unless it is configured otherwise: variables that are read as a process
#: starts. (Its configuration is read later.)
BEFORE_SPAWN = {
    "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "6640",
}  # fmt: skip
#: Beginnings of the names of variables that are read as a process starts, or as it imports what the source has imported.
EARLY = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "OMP_", "MKL_", "OPENBLAS_", "NUMPY_", "NPY_", "DASK_")
#: How the source begins: deaf to the stop button; with the modules that workers use, which are not collected again. Where no
#: process can be made it goes on: its end would be taken for that of all its forks.
BEGIN = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = {path!r}
from multiprocessing import forkserver
for name in {modules!r}:
    __import__(name)
import gc
gc.collect()
gc.freeze()
plain = os.fork
def fork():
    try:
        number = plain()
    except OSError:
        return -1
    if not number:
        os.fork = plain
    return number
os.fork = fork
forkserver.main({listener}, {alive}, [])
"""
#: As multiprocessing calls a process that it has spawned.
TITLE = "from multiprocessing.spawn import spawn_main; flyte_nb worker"


class Source(forkserver.ForkServer):
    """The source of this process's workers. Holds nothing until it is begun."""

    def __init__(self) -> None:
        super().__init__()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}
        self._modules: tuple[str, ...] = ()
        self._is_kept = False
        self._guard = threading.RLock()

    def begin(self, *modules: str, before_spawn: Mapping[str, str] = BEFORE_SPAWN) -> None:
        """Start the source in the background, unless it runs in an environment like today's.

        Args:
            *modules: What it imports.
            before_spawn: Variables that a worker's process is to start with.
        """
        environment = {**before_spawn, **os.environ}
        if sys.platform != "linux":
            return
        with self._guard:
            if self._runs() and _early(self._environment) == _early(environment):
                return
            self.end()
            self._modules, self._environment = modules, environment
            with contextlib.suppress(OSError):  # workers are spawned
                self._start()

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        path = f"{session_folder()}/forks"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        alive, self._forkserver_alive_fd = os.pipe()
        try:
            with socket.socket(socket.AF_UNIX) as listener, undebugged():
                listener.bind(path)
                listener.listen()
                begin = BEGIN.format(path=sys.path, modules=self._modules, listener=listener.fileno(), alive=alive)
                self._process = subprocess.Popen(  # noqa: S603
                    [spawn.get_executable(), *util._args_from_interpreter_flags(), "-c", begin],  # type: ignore[attr-defined]  # noqa: SLF001
                    env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True,
                    pass_fds=(listener.fileno(), alive),
                )  # fmt: skip
        except BaseException:
            os.close(self._forkserver_alive_fd)
            raise
        finally:
            os.close(alive)
        self._forkserver_address = path

    def ensure_running(self) -> None:
        """As multiprocessing's, which asks before each fork.

        Raises:
            OSError: There is no source, nor can there be one.
        """
        with self._guard:
            resource_tracker.ensure_running()
            if not self._modules:
                raise OSError("it was not begun")
            if not self._runs():
                self.end(forget=False)
                self._start()
            assert self._process is not None
            CARETAKER.watch(self._process.pid)

    def end(self, *, forget: bool = True) -> None:
        """End it; its forks go on, and what becomes of them is not known any more."""
        with self._guard:
            if self._is_kept and forget:
                return
            process, self._process = self._process, None
            if process is not None:
                os.close(self._forkserver_alive_fd)
                process.kill()
                process.wait()
                CARETAKER.release(process.pid)
            if forget:
                self._modules = ()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Within this it does not end: another cluster takes the place of the present one."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(EARLY)}


#: Of this process.
SOURCE = Source()


class _ForkedPopen(popen_forkserver.Popen):
    """A process forked from the source."""

    _fds: list[int]

    def _launch(self, process_obj: Any) -> None:
        # As the base class, which knows the user's server alone.
        data = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj._name), data)  # noqa: SLF001
            reduction.dump(process_obj, data)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, writer = SOURCE.connect_to_new_process(self._fds)
        self.finalizer = util.Finalize(self, util.close_fds, (os.dup(writer), self.sentinel))  # type: ignore[attr-defined]
        with open(writer, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)
        if self.pid < 0:
            self.finalizer()
            raise OSError("no more processes")

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """As the base class; a fork outlives its source."""
        timeout = 0 if flag == os.WNOHANG else None
        if self.returncode is None and wait([self.sentinel], timeout):
            try:
                self.returncode = forkserver.read_signed(self.sentinel)
            except (OSError, EOFError):
                self.returncode = 255 if _ended(self.pid, timeout) else None
        return self.returncode


def _ended(process: int, timeout: float | None) -> bool:
    """Whether a process that is no child of this one has ended, within so many seconds."""
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):
        return True
    try:
        return bool(wait([descriptor], timeout))
    finally:
        os.close(descriptor)


class WorkerProcess(context.SpawnProcess):
    """A worker's process: forked where that is possible, spawned where not. Children of its own are spawned either way."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        try:
            return _ForkedPopen(process_obj)
        except (OSError, EOFError):
            return popen_spawn_posix.Popen(process_obj)


class Begun:
    """What a worker's process executes, in the environment of the process that asked for it.

    Args:
        target: What Dask has it execute.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self._target = target
        self._environment = dict(os.environ)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Execute it."""
        if forkserver.get_inherited_fds() is not None:
            lead_group()
            for name in os.environ.keys() - self._environment.keys():
                del os.environ[name]
            os.environ.update(self._environment)
            set_command_line(f"{sys.executable} -c {TITLE}")
            # The source ends its forks without these.
            util.Finalize(None, atexit._run_exitfuncs, exitpriority=-1)  # noqa: SLF001
        return self._target(*args, **kwargs)


def set_command_line(text: str) -> None:
    """Show this process under a command line of its own: all forks of one source would have the same. Linux only."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        start, end = map(int, file.read().rpartition(b")")[2].split()[45:47])
        if 0 < start < end:
            data = os.fsencode(text)[: end - start - 2]
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, data, len(data))
            ctypes.memset(end - 1, ord(" "), 1)  # tells Linux that this is a text, and ends before


@contextlib.contextmanager
def undebugged() -> Iterator[None]:
    """Within this, JupyterLab's debugger, if it is on, does not start in processes that this thread starts.

    They would wait without end for a debugger to attach.
    """
    skip = getattr(sys.modules.get("_pydev_bundle.pydev_monkey"), "skip_subprocess_arg_patch", contextlib.nullcontext)
    with skip():
        yield
