"""Prompt of the debugger, with ``await``; and whether this front end can answer one. Runs in: kernel main thread."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import contextvars
import inspect
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from flyte_nb.core.attempts.threads import drain
from flyte_nb.core.failures import wording
from flyte_nb.worker.breakpoints import STEPPED_OVER

T = TypeVar("T")


class PromptRefusedError(RuntimeError):
    """A debugger was asked for in a front end that answers no prompts (nbclient, papermill)."""


def can_prompt(shell: Any) -> bool:
    """Whether the front end that sent the present cell answers prompts.

    nbclient, nbconvert and papermill don't; JupyterLab, Notebook and a terminal do.
    """
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return True  # IPython in a terminal.
    try:
        parent = kernel.get_parent("shell") or {}
        allowed = parent.get("content", {}).get("allow_stdin")
    except Exception:  # A kernel of another make.
        allowed = None
    return bool(getattr(kernel, "_allow_stdin", True) if allowed is None else allowed)


def demand_prompt(shell: Any, what: str) -> None:
    """Refuse early and clearly what cannot work, instead of failing at the first ``input()``.

    Args:
        shell: IPython's shell.
        what: What was asked for, "%flyte debug a17".

    Raises:
        PromptRefusedError: The front end answers no prompts.
    """
    if not can_prompt(shell):
        raise PromptRefusedError(
            f"{what} needs a prompt, and this notebook is being executed without anybody to answer one (nbclient, nbconvert, "
            "papermill). Open the notebook in JupyterLab and run it there, or read the failure with its full traceback: "
            "%flyte logs --traceback."
        )


def debugger(shell: Any) -> Any:
    """IPython's own debugger of this shell, which also steps over the machinery and understands ``await`` at its prompt."""
    base = shell.debugger_cls

    class FlytePdb(base):  # type: ignore[misc, valid-type]  # the base depends on the shell
        """IPython's debugger, with ``await``."""

        def stop_here(self, frame: Any) -> bool:
            if self.is_skipped_module(frame.f_globals.get("__name__", "")):
                return False  # IPython prints a line for each: ``next`` over an ``await`` would print forty.
            return bool(super().stop_here(frame))

        def format_stack_entry(self, frame_lineno: Any, *args: Any) -> str:
            """As the base class, with cells by their prompts."""
            file = self.canonic(frame_lineno[0].f_code.co_filename)
            return str(super().format_stack_entry(frame_lineno, *args).replace(file, wording.current().file(file)))

        def default(self, line: str) -> None:
            code = _awaiting(line.removeprefix("!").strip())
            if code is None:
                super().default(line)
                return
            try:
                self._await(code)
            except BaseException as exc:  # As pdb does: whatever the typed line raises is shown.
                self.error(f"{type(exc).__name__}: {exc}")

        def _getval(self, arg: str) -> Any:
            code = _awaiting(arg.strip(), "eval")
            if code is None:
                return super()._getval(arg)
            try:
                return self._await(code)
            except BaseException as exc:
                self.error(f"{type(exc).__name__}: {exc}")
                raise  # ``p`` then prints nothing.

        def _await(self, code: Any) -> Any:
            frame = self.curframe
            known = getattr(self, "curframe_locals", None)
            before, sys.displayhook = (
                sys.displayhook,
                self.displayhook,
            )  # As pdb does: IPython's would number the output.
            try:
                result = eval(code, frame.f_globals, frame.f_locals if known is None else known)  # noqa: S307
                return run_private(result) if inspect.iscoroutine(result) else result
            finally:
                sys.displayhook = before

    made = FlytePdb(skip=list(STEPPED_OVER))
    made.reset()
    return made


def _awaiting(line: str, mode: str = "single") -> Any:
    """The code of a line that Python accepts with a top-level ``await`` only; None for every other."""
    if "await" not in line and "async" not in line:
        return None
    with contextlib.suppress(SyntaxError):
        compile(line, "<stdin>", mode)
        return None
    with contextlib.suppress(SyntaxError):
        return compile(line, "<stdin>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return None


@contextlib.contextmanager
def outside_the_loop() -> Iterator[None]:
    """Within this, Python doesn't know of the loop that is running on this thread, so that another one can run.

    The outer loop stands still meanwhile, exactly as under any synchronous code. Nothing is patched, and nothing stays.
    """
    outer = asyncio._get_running_loop()  # noqa: SLF001 - asyncio has no public way to run a loop inside one
    task = asyncio.current_task(outer) if outer is not None else None
    # Since Python 3.14 a thread has one current task, whatever the loop: it is put aside too.
    swap = getattr(asyncio.tasks, "_swap_current_task", None) if sys.version_info >= (3, 14) else None
    if swap is not None and task is not None:
        swap(outer, None)
    asyncio._set_running_loop(None)  # noqa: SLF001 - asyncio has no public way to run a loop inside one
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)  # noqa: SLF001 - asyncio has no public way to run a loop inside one
        if swap is not None and task is not None:
            swap(outer, task)


def run_private(coroutine: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> T:
    """Run a coroutine to its end on a loop of its own, on this thread, whether or not a loop is running.

    On this thread, and not on another one: a prompt, the stop button and JupyterLab's debugger then work as in any cell.

    Args:
        coroutine: What to run.
        context: Variables to run it with, a copy of the present ones by default.

    Raises:
        BaseException: What the coroutine raises.
    """
    with outside_the_loop():
        loop = asyncio.new_event_loop()
        task = loop.create_task(coroutine, context=context)
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                loop.run_until_complete(task)
            raise
        finally:
            try:
                drain(loop)
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                loop.close()
