"""The debugger at a remote frame, and the short texts of failures in this kernel. Runs in: kernel main thread.

IPython's own ``%debug`` needs none of this: the errors that a cell gets carry real tracebacks (see
`flyte_nb.core.failures.rebuild`). Here is what opens at any failed action later, and what tells the core's texts how actions
and cells are called in this kernel.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb import errors
from flyte_nb.core.failures import rebuild, traceback_text, wording
from flyte_nb.core.failures.record import FailureRecord, record_of
from flyte_nb.core.failures.wording import Standing
from flyte_nb.errors import BaseRuntimeError
from flyte_nb.kernel.debugger.prompt import PromptRefusedError, can_prompt, debugger, demand_prompt

__all__ = ["Lookup", "PromptRefusedError", "Texts", "can_prompt", "debug", "post_mortem"]

#: Finds a failed action by what the user typed ("a17", "r3/a17"): its record, None if it has none, and a sentence on it.
Lookup = Callable[[str], tuple[FailureRecord | None, object]]


def debug(name: str, lookup: Lookup, *, shell: Any = None, all_frames: bool = False) -> None:
    """Open the debugger at the frame where an action failed: ``%flyte debug a17``.

    Args:
        name: What the user typed.
        lookup: Finds the action's failure record.
        shell: IPython's shell; the present one by default.
        all_frames: Also show frames of libraries and of the machinery; these have no variables.

    Raises:
        PromptRefusedError: Nobody can answer a prompt.
        LookupError: The action has no failure record.
    """
    record, about = lookup(name)
    if record is None:
        raise LookupError(
            f"there is nothing to debug in {name}: {about}. A failure record exists for actions that failed in this kernel; "
            "`%flyte status` lists them, and `%flyte replay` runs any action here."
        )
    post_mortem(record, shell=shell, all_frames=all_frames, what=f"%flyte debug {name}")


def post_mortem(
    record: FailureRecord, *, shell: Any = None, all_frames: bool = False, what: str = "the debugger"
) -> None:
    """Open IPython's debugger at the innermost frame of the user's in a failure record, with the remote locals.

    Args:
        record: The failure.
        shell: IPython's shell; the present one by default.
        all_frames: Also show frames of libraries and of the machinery; these have no variables.
        what: What the user asked for, for the error.

    Raises:
        PromptRefusedError: Nobody can answer a prompt.
        LookupError: The record has no frames: the worker died, say.
    """
    shell = shell or _present_shell()
    demand_prompt(shell, what)
    error, tb = rebuild.rebuild(record, all_frames=all_frames)
    if tb is None:
        raise LookupError(
            f"{record.type_name} has no frames to look at: {record.message or 'it did not fail in Python code'}"
        )
    print(f"{record.type_name}: {record.message}"[:500])  # noqa: T201 - the answer to a command
    for note in rebuild.describe(record):
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
        except _quit():
            pass
        finally:
            sys.settrace(None)


def _quit() -> type[BaseException]:
    from bdb import BdbQuit

    return BdbQuit


def remember(error: BaseException, tb: types.TracebackType | None) -> None:
    """Make this the error that ``%debug`` opens, as after a cell that raised it."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error


#: Exceptions that are shown without the machinery's frames: groups of failures, what the stop button and time limits raise,
#: and what is refused before anything runs.
_HANDLED = (
    BaseExceptionGroup, KeyboardInterrupt, asyncio.CancelledError, TimeoutError, errors.ArgumentError,
    errors.SerializationError, errors.InlineIOMaxBytesBreached, errors.InitializationError, errors.NoClusterError,
)  # fmt: skip


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_ours(tb: types.TracebackType | None) -> bool:
    """Whether a traceback passes through flyte_nb."""
    while tb is not None:
        if str(tb.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "flyte_nb":
            return True
        tb = tb.tb_next
    return False


def _present_shell() -> Any:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise RuntimeError("the debugger needs IPython: use it in a notebook, or in IPython in a terminal")
    return shell


class Texts:
    """Has failures in this kernel worded with its own names, and exception groups shown with what is inside.

    A stopped cell shows the user's frames only. Exception groups need help because IPython leaves them to Python's own
    printing, which shows the machinery's frames once for each exception. IPython's registration for custom exceptions is used,
    and decides over groups that hold an error of a failed action; every other group, and every other error, is shown as before.

    Args:
        shell: IPython's shell.
        name_of: Gives the short name ("a17") of an action's full name; "" if it has none.
    """

    def __init__(
        self,
        shell: Any,
        name_of: Callable[[str], str],
        standing: Callable[[str], Standing] = lambda _action: Standing(),
    ) -> None:
        self._shell = shell
        self._name_of = name_of
        self._standing = standing
        self._before: wording.Presentation | None = None
        self._handles = False

    def install(self) -> None:
        """Start. Where somebody else handles exceptions in IPython already, groups are left to them."""
        self._before = wording.current()
        color = getattr(self._shell, "colors", "nocolor").lower() != "nocolor"
        wording.configure(
            wording.Presentation(self._name_of, self._file, color, commands=True, standing=self._standing)
        )
        if not getattr(self._shell, "custom_exceptions", ()):
            self._shell.set_custom_exc(_HANDLED, self._show)
            self._handles = True

    def uninstall(self) -> None:
        """Stop, and leave IPython as it was found."""
        if self._before is not None:
            wording.configure(self._before)
        if self._handles and self._shell.custom_exceptions == _HANDLED:
            self._shell.set_custom_exc((), None)
        self._handles = False

    def _file(self, filename: str) -> str:
        describe = getattr(self._shell.compile, "format_code_name", None)
        found = describe(filename) if describe else None
        if found:
            return " ".join(str(part) for part in found)  # ("Cell", "In[5]")
        return wording.Presentation().file(filename)

    def _show(self, shell: Any, etype: type, value: Any, tb: Any, tb_offset: int | None = None) -> list[str] | None:
        if isinstance(value, BaseExceptionGroup):
            return self._show_group(shell, etype, value, tb, tb_offset)
        if isinstance(value, TimeoutError) and not any(_is_ours(each.__traceback__) for each in _chain(value)):
            shell.showtraceback((etype, value, tb), tb_offset=tb_offset)  # somebody else's
            return None
        for each in _chain(value):
            each.__traceback__ = rebuild.without_machinery(each.__traceback__)
        shell.showtraceback((etype, value, rebuild.without_machinery(tb) or tb), tb_offset=0)
        return None

    def _show_group(
        self, shell: Any, etype: type, value: Any, tb: Any, tb_offset: int | None = None
    ) -> list[str] | None:
        ours = [error for error in traceback_text.leaves([value]) if isinstance(error, BaseRuntimeError)]
        first = next((error for error in ours if record_of(error) is not None), ours[0] if ours else None)
        if first is None:
            shell.showtraceback((etype, value, tb), tb_offset=tb_offset)
            return None
        lines = traceback_text.render_group(value)
        shell._showtraceback(etype, value, lines)
        # ``%debug`` opens the first failure: the group itself was raised by asyncio, far from any of them.
        remember(first, first.__traceback__)
        if shell.call_pdb:
            shell.debugger(force=True)
        return lines
