"""Last words: the end of a worker's process, and why, for its owner to read in its black box. Runs in: worker process.

A process is replaced where an attempt does not stop (`flyte_nb.worker.stopping`), and where our own machinery fails in it: a
task can break what everything depends on (modules, pickle, sockets), and a worker that goes on then answers for nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from flyte_nb.engine.clusters.black_box import BROKEN, CANNOT_GO_ON, BlackBox

# Taken now: a task may put anything into their place.
_exit, _execv = os._exit, os.execv
#: Longest text of an error among them, in characters.
MAX_CAUSE = 300


class LastWords:
    """The end of one worker's process.

    Args:
        worker: Dask's.
        owns_process: Whether the process is the worker's; else it is the user's own, which goes on.
    """

    def __init__(self, worker: Any, owns_process: bool) -> None:
        self.path: Path = Path(worker.local_directory) / "flyte-nb-slots"
        self.box: BlackBox | None = None
        self._nanny = bool(worker.nanny)
        self._owns_process = owns_process
        if owns_process:
            with contextlib.suppress(OSError):  # a full disk: nobody will know what computed
                self.box = BlackBox(self.path, make=True)

    def fail(self, error: BaseException, where: str) -> None:
        """Flyte_nb's own code has failed in this process: end it, unless it is the user's own."""
        if not self._owns_process:
            return
        with contextlib.suppress(BaseException):
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name != "_drain"]
            at = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
            self.say(
                f"{CANNOT_GO_ON}, {where} failed with {type(error).__name__}: {str(error)[:MAX_CAUSE]}{at}. Code that ran "
                "there has probably changed a module of Python's or of flyte_nb's, or closed what it had not opened"
            )
        self.replace_process(BROKEN)

    def say(self, text: str) -> None:
        """Note why this process is about to end."""
        if self.box is not None:
            self.box.last_words(text)

    def replace_process(self, status: int = 1) -> None:
        """End this process; where no nanny would start another, become a fresh worker, of the same command line."""
        if not self._owns_process:
            return
        if self._nanny:
            _exit(status)
        _execv(sys.executable, sys.orig_argv)

    def close(self) -> None:
        """Nothing of ours computes here any more."""
        if self.box is not None:  # a body that goes on still writes to it
            self.path.unlink(missing_ok=True)
