"""Display of errors in this kernel: its names of actions and cells, no frames of the machinery. Runs in: kernel main thread.

The errors that a cell gets carry real tracebacks (`flyte_nb.core.failures.rebuild`), so IPython shows most of them by itself.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb import errors
from flyte_nb.core.failures import rebuild, traceback_text, wording
from flyte_nb.core.failures.record import record_of
from flyte_nb.core.failures.wording import Standing
from flyte_nb.errors import BaseRuntimeError
from flyte_nb.kernel.debugger.post_mortem import remember

#: Exceptions that are shown without the machinery's frames: groups of failures, what the stop button and time limits raise,
#: and what is refused before anything runs.
_HANDLED = (
    BaseExceptionGroup, KeyboardInterrupt, asyncio.CancelledError, TimeoutError, errors.ArgumentError,
    errors.SerializationError, errors.InlineIOMaxBytesBreached, errors.InitializationError, errors.NoClusterError,
)  # fmt: skip


#: What the error of a cell that was stopped says.
STOPPED = "the cell was stopped, and with it what it had under way"


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


class ErrorDisplay:
    """Words failures with the names of this kernel, and shows exception groups with what is inside.

    A stopped cell shows the user's frames only. Exception groups need help because IPython leaves them to Python's own
    printing, which shows the machinery's frames once for each exception. IPython's registration for custom exceptions is used,
    and decides over groups that hold an error of a failed action; every other group, and every other error, is shown as before.

    Args:
        shell: IPython's shell.
        name_of: Gives the short name ("a17") of an action's full name; "" if it has none.
        standing: Gives the status of the run of an action, by its full name.
        stopped: Whether the cell that executes was stopped.
    """

    def __init__(
        self,
        shell: Any,
        name_of: Callable[[str], str],
        standing: Callable[[str], Standing] = lambda _action: Standing(),
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._shell = shell
        self._name_of = name_of
        self._standing = standing
        self._stopped = stopped
        self._before: wording.Presentation | None = None
        self._handles = False

    def install(self) -> None:
        """Start. Where another extension handles exceptions in IPython already, groups are left to it."""
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
            shell.showtraceback((etype, value, tb), tb_offset=tb_offset)  # not of a task
            return None
        if isinstance(value, asyncio.CancelledError) and not value.args and self._stopped():
            value.args = (STOPPED,)
        for each in _chain(value):
            each.__traceback__ = rebuild.without_machinery(each.__traceback__)
        shell.showtraceback((etype, value, rebuild.without_machinery(tb) or tb), tb_offset=0)
        return None

    def _show_group(self, shell: Any, etype: type, value: Any, tb: Any, tb_offset: int | None) -> list[str] | None:
        ours = [error for error in traceback_text.leaves([value]) if isinstance(error, BaseRuntimeError)]
        first = next((error for error in ours if record_of(error) is not None), ours[0] if ours else None)
        if first is None:
            shell.showtraceback((etype, value, tb), tb_offset=tb_offset)
            return None
        lines = traceback_text.render_group(value)
        shell._showtraceback(etype, value, lines)  # noqa: SLF001 - IPython's hook
        # ``%debug`` opens the first failure: the group itself was raised by asyncio, far from any of them.
        remember(first, first.__traceback__)
        if shell.call_pdb:
            shell.debugger(force=True)
        return lines
