"""Process of a detached run: its home, which ends with it. Runs in: a process that outlives the kernel that started it.

It is told on its standard input what to run, says the run's name on its standard output, and takes requests (cancel, answers to
conditions) from the journal. What it prints itself is in a file beside the journal, which goes when all was well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run what is told, and end with it."""
    order = pickle.load(sys.stdin.buffer)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # The caller listens for the run's name: a descriptor that no child gets. What is printed goes where errors go.
    answer = os.dup(1)
    os.dup2(2, 1)
    sys.path[:] = order["path"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nobody's Ctrl-C; the run is cancelled by request
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _serve(order, answer)
    Path(sys.argv[1]).unlink(missing_ok=True)


def _serve(order: dict[str, Any], answer: int) -> None:
    import cloudpickle

    from flyte_nb.core.journal import location
    from flyte_nb.core.runs.defaults import info_for
    from flyte_nb.core.runs.run_control import RunControl
    from flyte_nb.core.runs.run_registry import launch
    from flyte_nb.kernel import session as sessions
    from flyte_nb.kernel.operations import buttons

    task, bound, options, around, cluster = cloudpickle.loads(order["call"])
    location.configure(order["history"])
    session = sessions.ensure(**cluster)
    past = session.past
    assert past is not None
    past.journal.notebook = order["notebook"]

    def requested(request: Any) -> None:
        def do() -> None:
            button = buttons().get(request.op)
            if button is not None and request.run in session.store.runs:
                button(session, request.run, request.args)

        with contextlib.suppress(RuntimeError):  # it is closing
            session.gateway.run_soon(do)

    past.journal.on_request = requested
    info = dataclasses.replace(info_for(session, "remote", options), surroundings=around)
    custom = tuple((options.get("custom_context") or {}).items())
    run = launch(RunControl(session, info, task, bound, custom))
    session.gateway.ask(lambda: None)  # it is open now
    past.journal.flush()
    if not past.journal.kernel:
        run.abort("it could not be recorded")
        raise RuntimeError(f"the run cannot be recorded: {past.journal.off or 'the history is busy'}")
    os.write(answer, f"k{past.journal.kernel}.{run.name}".encode())
    os.close(answer)
    run.wait()
    session.close()


if __name__ == "__main__":
    main()
