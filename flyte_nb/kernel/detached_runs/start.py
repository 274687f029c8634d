"""Detach a run: start a process of its own for it, and follow it here. Runs in: the user's process.

The process (`detached_runs.home`) is a session like a script's: it attaches to this session's cluster, or starts one
as this one has, and records the run where this one records its own. So the run's home needs no protocol of its own:
whoever looks at it, from here or from a later kernel, reads the journal. It is on this machine because the journal is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from flyte_nb.core.attempts import surroundings
from flyte_nb.core.journal.restore import Past
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.run import Run
from flyte_nb.core.transport.payload import describe_culprit
from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.core.values import pickler
from flyte_nb.errors import RuntimeSystemError
from flyte_nb.kernel.session import Session, ensure

#: Characters of what the process has said that are shown when it fails to start.
MAX_SAID = 2_000
#: Seconds that the log of a process is kept which did not end as it should; all runs are detached for less.
KEEP_LOGS_S = 30 * 86_400.0


def detach(task: Any, bound: Any, options: dict[str, Any]) -> Run:
    """Start a run in a process of its own, and show it under the cell that is executing.

    Raises:
        ValueError: Runs are not recorded: nobody would find it again.
        UnpicklableError: The task or an argument cannot be sent.
        RuntimeSystemError: The process did not start; its message is in the error.
    """
    session = ensure()
    past = session.past
    if past is None or past.journal.off:
        why = "is off: call flyte_nb.init(history=True)" if past is None else f"cannot be written: {past.journal.off}"
        raise ValueError(f"detach=True: a run outlives its kernel in the history, which {why}.")
    session.wait_ready()  # what keeps the cluster from being reached is said here
    name = _started(_order(session, past, task, bound, options), past.history.folder)
    past.load(name)
    session.show_here(name)
    return run_registry.find(name)


def _order(session: Session, past: Past, task: Any, bound: Any, options: dict[str, Any]) -> bytes:
    """What the process is to do, in two pickles: the second needs what the first says."""
    dump_function(task)  # for its error, which names what cannot be sent
    try:
        call = pickler.dumps((task, bound, {**options, "detach": False}, surroundings.capture(), _cluster_of(session)))
    except Exception as exc:
        raise TypeError(
            f"detach=True: {describe_culprit(bound)} cannot be sent to the run's own process ({type(exc).__name__}: {exc})."
        ) from exc
    about = {
        "path": list(sys.path),
        "history": str(past.history.folder),
        "notebook": past.journal.notebook,
        "call": call,
    }
    return pickle.dumps(about)


def _cluster_of(session: Session) -> dict[str, Any]:
    """What `Session` is to be given there: the address of the cluster, or how to start one."""
    options = {name: value for name, value in session.options.items() if value is not None}
    handle = session.engine.network.handle
    if handle is not None and not handle.embedded:
        options |= {"target": str(handle.client.scheduler.address), "security": handle.client.security}
    return options


def _started(order: bytes, folder: Path) -> str:
    """Start the process; returns the name of its run once that is recorded."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # it may be the first run of all
    for old in folder.glob("detached-*.log"):  # of processes that were killed
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > KEEP_LOGS_S:
                old.unlink()
    with tempfile.NamedTemporaryFile(dir=folder, prefix="detached-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-m", "flyte_nb.kernel.detached_runs.home", log.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True,  # what ends a kernel ends its process group
            env={**os.environ, "FLYTE_NB_HISTORY": str(folder)},
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(order)
        with process.stdout:
            name = process.stdout.read().decode().strip()
    except BaseException:  # a stop while it starts
        process.kill()
        process.wait()
        raise
    if not name:
        text = Path(log.name).read_text(errors="replace")[-MAX_SAID:].strip()
        Path(log.name).unlink(missing_ok=True)
        process.wait()
        raise RuntimeSystemError("RuntimeSystemError", f"the process of a detached run ended before it began:\n{text}")
    threading.Thread(target=process.wait, name="flyte-detached", daemon=True).start()  # else it would stay a zombie
    return name
