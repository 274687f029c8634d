"""Caretaker: a small process that outlives this one, ends workers left behind and removes their folders. Runs in: both.

However a kernel ends (SIGKILL, ``os._exit``, a closed terminal), its pipe to the caretaker closes. A worker could see to its
end itself only with the GIL, which the user's code may hold for ever; and nothing of Linux's alone would do on macOS. The
caretaker has a session of its own, so that what is sent to the kernel's process group does not reach it; started by its path,
it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

#: Seconds that it waits for processes it has killed, before it removes their folders.
PATIENCE = 3.0


class Caretaker:
    """The end of the pipe that this process holds; one per process, started by `start`."""

    def __init__(self) -> None:
        self._pipe: int | None = None

    def start(self, roots: list[str], prefix: str) -> None:
        """Start it, unless it runs already.

        Args:
            roots: Where the folders of processes lie.
            prefix: How the name of a process's folder begins; the number of the process follows.
        """
        if self._pipe is not None or os.name != "posix":
            return
        reader, writer = os.pipe()
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), prefix, *roots]
        output = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        try:
            os.posix_spawn(
                sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), *output]
            )
        except OSError:  # no more processes: workers end by Dask's own means, and folders go with the next session
            os.close(writer)
        else:
            self._pipe = writer
            # A fork must not keep the pipe open: the caretaker would wait for its end, too.
            os.register_at_fork(after_in_child=self._forget)
        finally:
            os.close(reader)

    def _forget(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def watch(self, process: int) -> None:
        """End this process and its group when ours has ended."""
        self._tell(f"+{process}\n")

    def release(self, process: int) -> None:
        """It has ended: its number may come to mean another process."""
        self._tell(f"-{process}\n")

    def _tell(self, line: str) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, line.encode())


#: Of this process.
CARETAKER = Caretaker()


def lead_group() -> None:
    """Have a process group of its own: what tasks start ends with their worker, and is spared the stop button's SIGINT."""
    if hasattr(os, "setpgid"):
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)


def end_group(process: int) -> None:
    """Kill what a worker's tasks have started: each worker leads a process group."""
    with contextlib.suppress(OSError):
        os.killpg(process, signal.SIGKILL)


def _serve(kernel: str, prefix: str, roots: list[str]) -> None:
    """Wait until the pipe closes; then leave nothing of these processes."""
    import glob
    import shutil

    watched: set[int] = set()
    for line in sys.stdin:
        (watched.add if line[0] == "+" else watched.discard)(int(line[1:]))
    for process in watched:
        end_group(process)
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while any(map(_exists, watched)) and time.monotonic() < end:
        time.sleep(0.01)
    for root in roots:
        for number in (kernel, *watched):
            for folder in glob.glob(f"{glob.escape(f'{root}/{prefix}{number}')}-*"):  # noqa: PTH207 - pathlib takes 10 ms
                shutil.rmtree(folder, ignore_errors=True)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - on Linux: one that nobody has reaped is dead
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except ProcessLookupError:
        return False
    except OSError:
        return not os.path.isdir("/proc/self")  # noqa: PTH112


if __name__ == "__main__":
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.closerange(3, 1024)
    _serve(sys.argv[1], sys.argv[2], sys.argv[3:])
