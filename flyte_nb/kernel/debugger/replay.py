"""Replay an action's body in the kernel, under the debugger. Runs in: kernel main thread.

The body runs on the main thread: a sync body directly, an async one on a loop of its own
(`flyte_nb.kernel.debugger.prompt`). So ``breakpoint()``, the stop button and JupyterLab's debugger work in it as in any cell.
Children that it awaits run on the cluster as always: the engine's thread handles them, which no prompt stops.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import os
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from flyte_nb.core.failures import traceback_text
from flyte_nb.kernel.debugger.post_mortem import interact, present_shell, remember
from flyte_nb.kernel.debugger.prompt import can_prompt, debugger, demand_prompt, run_private


class Replayed(NamedTuple):
    """How a replay ended."""

    #: What the body returned; None if it didn't.
    value: Any = None
    #: What it raised; None if it returned, or the user left the debugger with ``quit``.
    error: BaseException | None = None
    #: Whether the user left the debugger with ``quit``.
    quit: bool = False


def replay(
    function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *,
    context: contextvars.Context | None = None, step: bool = False, shell: Any = None, what: str = "replay",
) -> Replayed:  # fmt: skip
    """Call a task's function here. ``breakpoint()`` stops in it, and if it fails the debugger opens where it did.

    Args:
        function: The body, sync or async: ``task.func``.
        args: Positional arguments, the action's own.
        kwargs: Keyword arguments.
        context: Variables to run it with: those that make `flyte.ctx()` and child calls work. The present ones by default.
        step: Stop at the first line of the body.
        shell: IPython's shell; the present one by default.
        what: What the user asked for, for messages.

    Returns:
        What became of it. A failure is shown and returned, not raised, once the user has seen it in the debugger.

    Raises:
        PromptRefusedError: ``step`` was asked for, and the front end answers no prompts.
        BaseException: What the body raised, where the front end answers no prompts; `KeyboardInterrupt` always.
    """
    from bdb import BdbQuit

    __tracebackhide__ = True  # Read by IPython's debugger.
    shell = shell or present_shell()
    if step:
        demand_prompt(shell, f"{what} with step")
    context = context or contextvars.copy_context()
    try:
        with _breakpoints(shell, function if step else None):
            return Replayed(_call(function, args, dict(kwargs or {}), context))
    except BdbQuit:
        return Replayed(quit=True)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        if not can_prompt(shell):
            _shorten(exc)
            raise
        _show(shell, exc)
        return Replayed(error=exc)


def _call(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: contextvars.Context
) -> Any:
    __tracebackhide__ = True  # Read by IPython's debugger.
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        value = context.run(function, *args, **kwargs)
        if isinstance(value, AsyncIterator):  # of a task that yields: all of it
            return run_private(_listed(value), context)
        if isinstance(value, Iterator):
            return context.run(list, value)
        return run_private(value, context) if inspect.iscoroutine(value) else value
    return run_private(context.run(function, *args, **kwargs), context)


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    __tracebackhide__ = True
    return [item async for item in items]


def _shorten(exc: BaseException) -> None:
    """Have IPython show an error that leaves a replay with the body's frames only."""
    text = traceback_text.render(exc.with_traceback(_own_frames(exc.__traceback__)))
    with contextlib.suppress(AttributeError, TypeError):  # an exception without a dictionary
        exc._render_traceback_ = lambda: text  # type: ignore[attr-defined]  # IPython's protocol


def _show(shell: Any, exc: BaseException) -> None:
    tb = _own_frames(exc.__traceback__)
    exc = exc.with_traceback(tb)
    print("\n".join(traceback_text.render(exc)))  # noqa: T201 - the answer to a command
    remember(exc, tb)
    if tb is not None:
        interact(shell, tb)


def _own_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback without the frames that called the body: from its first frame that is not the machinery's."""
    from flyte_nb.core.values import source_lines

    start = tb
    while start is not None:
        module = str(start.tb_frame.f_globals.get("__name__", ""))
        if source_lines.kind_of(start.tb_frame.f_code.co_filename, module) != source_lines.MACHINE:
            return start
        start = start.tb_next
    return tb


@contextmanager
def _breakpoints(shell: Any, first_stop: Callable[..., Any] | None) -> Iterator[None]:
    """Have ``breakpoint()`` stop, and optionally the first line of a function.

    In a kernel ``sys.breakpointhook`` is debugpy's, which does nothing unless JupyterLab's debugger is on.
    """
    before, tracing = sys.breakpointhook, sys.gettrace()

    def hook(*args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT") == "0":
            return None
        if _labs_debugger_is_on():
            return before(*args, **kwargs)
        if not can_prompt(shell):
            print("breakpoint() is passed over: nobody can answer its prompt here")  # noqa: T201
            return None
        debugger(shell).set_trace(sys._getframe().f_back)  # noqa: SLF001 - the documented way to a frame
        return None

    sys.breakpointhook = hook
    if first_stop is not None:
        sys.settrace(_stop_in(shell, inspect.unwrap(first_stop).__code__))
    try:
        yield
    finally:
        sys.breakpointhook = before
        sys.settrace(tracing)


def _stop_in(shell: Any, code: types.CodeType) -> Callable[..., Any]:
    """A trace function that opens the debugger when a code object begins to run."""

    def trace(frame: types.FrameType, event: str, _arg: Any) -> Any:
        if event != "call" or frame.f_code is not code:
            return None
        made = debugger(shell)
        made.set_trace(frame)
        return made.trace_dispatch

    return trace


def _labs_debugger_is_on() -> bool:
    debugpy = sys.modules.get("debugpy")
    try:
        return debugpy is not None and bool(debugpy.is_client_connected())
    except Exception:  # debugpy without its server.
        return False
