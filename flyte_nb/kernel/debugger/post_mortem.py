"""Post-mortem debugger at the remote frame of a failed action, with the locals it had there. Runs in: kernel main thread.

IPython's own ``%debug`` needs none of this: the errors that a cell gets carry real tracebacks (see
`flyte_nb.core.failures.rebuild`). Here is what opens at any failed action later.
"""

from __future__ import annotations

import sys
import types
from bdb import BdbQuit
from typing import Any

from flyte_nb.core.failures import rebuild
from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.kernel.debugger.prompt import debugger, demand_prompt


def post_mortem(record: FailureRecord, *, shell: Any = None, what: str = "the debugger") -> None:
    """Open IPython's debugger at the innermost frame of the user's in a failure record, with the remote locals.

    Args:
        record: The failure.
        shell: IPython's shell; the present one by default.
        what: What the user asked for, for the error.

    Raises:
        PromptRefusedError: The front end answers no prompts.
        LookupError: The record has no frames: the worker died, say.
    """
    shell = shell or present_shell()
    demand_prompt(shell, what)
    error, tb = rebuild.rebuild(record)
    if tb is None:
        why = record.message or "it did not fail in Python code"
        raise LookupError(f"{record.type_name} has no frames to look at: {why}")
    print(f"{record.type_name}: {record.message}"[:500])  # noqa: T201 - the answer to a command
    for note in rebuild.notes_of(record):
        print(note)  # noqa: T201
    remember(error, tb)
    interact(shell, tb)


def interact(shell: Any, tb: types.TracebackType) -> None:
    """Run the debugger's prompt at the end of a traceback, until the user leaves it."""
    from IPython.core.display_trap import DisplayTrap

    made = debugger(shell)
    # A name typed at the prompt is printed by pdb, and not taken for the cell's result.
    with DisplayTrap(hook=sys.__displayhook__):
        made.botframe = tb.tb_frame
        try:
            made.interaction(None, tb)
        except BdbQuit:
            pass
        finally:
            sys.settrace(None)


def remember(error: BaseException, tb: types.TracebackType | None) -> None:
    """Make this the error that ``%debug`` opens, as after a cell that raised it."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def present_shell() -> Any:
    """IPython's shell of this process.

    Raises:
        RuntimeError: There is none.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise RuntimeError("the debugger needs IPython: use it in a notebook, or in IPython in a terminal")
    return shell
