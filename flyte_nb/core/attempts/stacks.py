"""Stacks: where a running thread or a suspended coroutine is at the moment. Runs in: everywhere.

Looking never disturbs: nothing is interrupted, and no code of the user's is called.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from flyte_nb.core.failures import wording
from flyte_nb.core.values import source_lines

#: Frames looked at; a runaway recursion has more.
MAX_STACK_FRAMES = 400
#: Frames shown in a text.
MAX_SHOWN_FRAMES = 20
#: Longest text of what a coroutine waits for, in characters.
MAX_WAITS = 200
_WITH_FRAMES = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


class StackFrame(NamedTuple):
    """One frame of a stack."""

    filename: str
    lineno: int
    name: str
    #: "user", "library" or "machinery"; see `flyte_nb.core.values.source_lines`.
    kind: str
    #: The line's text, stripped; "" if its source is unknown.
    line: str

    @property
    def is_user(self) -> bool:
        """Whether it is a frame of the user's own code."""
        return self.kind == source_lines.USER


class Stack(NamedTuple):
    """A stack at one moment. Picklable: a worker sends it to the kernel."""

    #: Outermost first.
    frames: tuple[StackFrame, ...]
    #: "running", "suspended" or "ended".
    state: str
    #: What a suspended coroutine waits for, in words; "" if unknown.
    waits_for: str = ""
    #: Frames beyond `MAX_STACK_FRAMES`.
    left_out: int = 0

    @property
    def where(self) -> str:
        """The innermost frame of the user's, "helper.py:12 in work"; "" if there is none."""
        for frame in reversed(self.frames):
            if frame.is_user:
                return f"{wording.current().file(frame.filename)}:{frame.lineno} in {frame.name}"
        return ""


def frames_of_threads() -> dict[int, types.FrameType]:
    """What each thread executes, by its ``threading.get_ident()``.

    Without the garbage collector, which Python may run meanwhile: a `threading.local` that it finds takes a lock which Python
    holds just then, and the process stands still (3.11).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()  # noqa: SLF001 - documented, in spite of its name
    finally:
        if collects:
            gc.enable()


def thread_stack(thread: int) -> Stack:
    """The stack of a thread of this process, by its ``threading.get_ident()``."""
    frame = frames_of_threads().get(thread)
    if frame is None:
        return Stack((), "ended")
    chain = _outwards(frame)
    return _stack(chain, "running", next((words for item, _ in reversed(chain) if (words := _awaited_call(item))), ""))


def importing(thread: int) -> str:
    """The package that a thread imports just now, the outermost of those that import each other; "" for none."""
    frame, found = frames_of_threads().get(thread), ""
    for _ in range(MAX_STACK_FRAMES):
        if frame is None:
            break
        if frame.f_code.co_name == "_find_and_load" and "importlib" in frame.f_code.co_filename:
            found = str(frame.f_locals.get("name", ""))
        frame = frame.f_back
    return found.partition(".")[0]


def coroutine_stack(target: Any) -> Stack:
    """The stack of a coroutine or an asyncio task, running or suspended, down to what it waits for.

    Args:
        target: A coroutine, an async generator, or an `asyncio.Task`. Must be looked at from a thread that can hold it still:
            the loop's own, or while the loop is blocked.

    Returns:
        Frames of the coroutine, of the coroutines it awaits, and of the asyncio tasks it waits for.
    """
    found: list[tuple[types.FrameType, int]] = []
    waits_for = ""
    seen: set[int] = set()
    current: Any = target
    while current is not None and id(current) not in seen and len(found) < MAX_STACK_FRAMES:
        seen.add(id(current))
        frame, following, running = _step(current)
        if running and frame is not None:
            return _stack([*found, *_running(frame)], "running")
        if frame is not None:
            found.append((frame, frame.f_lineno))
            # `asyncio.wait_for` holds what it waits for in a variable only.
            following = _peek(frame, "wait_for", "fut") or following
        elif isinstance(current, asyncio.Future):
            if following is None:
                waits_for = _future_text(current, found)
                break
        elif following is None and not isinstance(current, _WITH_FRAMES):
            waits_for = type(current).__name__
        current = following
    ended = not found and not waits_for
    return _stack(found, "ended" if ended else "suspended", waits_for)


def _step(thing: Any) -> tuple[types.FrameType | None, Any, bool]:
    """Frame of one link of the chain of awaits, the next link, and whether it is running at this moment."""
    if isinstance(thing, asyncio.Task):
        return None, thing.get_coro(), False
    if isinstance(thing, asyncio.Future):
        pending = [child for child in getattr(thing, "_children", ()) if not child.done()]  # of asyncio.gather
        return None, pending[0] if len(pending) == 1 else None, False
    for prefix in ("cr", "gi", "ag"):
        if hasattr(thing, f"{prefix}_frame"):
            following = getattr(thing, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await")
            # An async generator says "running" while it is suspended in an ``asend`` as well.
            running = bool(getattr(thing, f"{prefix}_running")) and not (prefix == "ag" and following is not None)
            return getattr(thing, f"{prefix}_frame"), following, running
    return None, _inside(thing), False


def _inside(wrapper: Any) -> Any:
    """What a wrapper that Python gives no access to waits for: the future of an iterator, the generator of an ``asend``."""
    kinds = (asyncio.Future, types.CoroutineType, types.AsyncGeneratorType, types.GeneratorType)
    return next((thing for thing in gc.get_referents(wrapper) if isinstance(thing, kinds)), None)


def _peek(frame: types.FrameType, function: str, variable: str) -> Any:
    """A variable of one of asyncio's own functions; None if the frame is not that function's."""
    code = frame.f_code
    if code.co_name != function or frame.f_globals.get("__name__", "").partition(".")[0] != "asyncio":
        return None
    return frame.f_locals.get(variable)


def _future_text(future: asyncio.Future[Any], found: list[tuple[types.FrameType, int]]) -> str:
    """What a future at the end of a chain of awaits stands for, by what made it."""
    children = getattr(future, "_children", None)
    if children:
        return _unfinished("asyncio.gather", children)
    if found:
        innermost = found[-1][0]
        call = _awaited_call(innermost)
        if call:
            return call
        several = _peek(innermost, "_wait", "fs")
        if several:
            return _unfinished("asyncio.wait", several)
        group = _peek(innermost, "__aexit__", "self")
        if isinstance(group, asyncio.TaskGroup):
            return f"asyncio.TaskGroup: {len(group._tasks)} unfinished"  # noqa: SLF001 - asyncio has no public way to ask
        if innermost.f_globals.get("__name__", "").partition(".")[0] == "asyncio":
            return f"asyncio.{innermost.f_code.co_qualname}"
    return "a future" if type(future).__name__ == "Future" else type(future).__name__


def _awaited_call(frame: types.FrameType) -> str:
    """The action that a frame of ours waits for (`flyte_nb.core.control.gateway.Gateway`), in words; "" for any other frame."""
    name = frame.f_code.co_name
    if name not in {"wait", "wait_sync"} or frame.f_globals.get("__name__") != "flyte_nb.core.control.gateway":
        return ""
    label = getattr(frame.f_locals.get("call"), "label", "")
    return f"action {label}" if label else ""


def _unfinished(name: str, futures: Any) -> str:
    return f"{name}: {sum(1 for future in futures if not future.done())} of {len(futures)} unfinished"


def _running(frame: types.FrameType) -> Iterator[tuple[types.FrameType, int]]:
    """Frames called by a running coroutine's frame, itself included, outermost first."""
    for top in frames_of_threads().values():
        chain = _outwards(top)
        for index, (known, _) in enumerate(chain):
            if known is frame:
                yield from chain[index:]
                return
    yield frame, frame.f_lineno


def _outwards(frame: types.FrameType | None) -> list[tuple[types.FrameType, int]]:
    found: list[tuple[types.FrameType, int]] = []
    while frame is not None:
        found.append((frame, frame.f_lineno or 0))
        frame = frame.f_back
    found.reverse()
    return found


def _stack(found: list[tuple[types.FrameType, int]], state: str, waits_for: str = "") -> Stack:
    kept = (
        found
        if len(found) <= MAX_STACK_FRAMES
        else found[: MAX_STACK_FRAMES // 4] + found[-3 * MAX_STACK_FRAMES // 4 :]
    )
    return Stack(tuple(_frame(*item) for item in kept), state, waits_for[:MAX_WAITS], len(found) - len(kept))


def _frame(frame: types.FrameType, lineno: int) -> StackFrame:
    code = frame.f_code
    kind = source_lines.kind_of(code.co_filename, str(frame.f_globals.get("__name__", "")))
    line = source_lines.line_of(code.co_filename, lineno)
    return StackFrame(code.co_filename, lineno, code.co_name, kind, line)


def format_stack(stack: Stack) -> str:
    """A bounded text of a stack: the user's frames and a count of the others, or all if none is the user's."""
    lines: list[str] = []
    user = [frame for frame in stack.frames if frame.is_user]
    shown = user or list(stack.frames)
    surplus = len(shown) - MAX_SHOWN_FRAMES
    for index, frame in enumerate(shown):
        if surplus > 0 and MAX_SHOWN_FRAMES // 2 <= index < MAX_SHOWN_FRAMES // 2 + surplus:
            if index == MAX_SHOWN_FRAMES // 2:
                lines.append(f"  ... {surplus} more frames ...")
            continue
        lines.append(f"  {wording.current().file(frame.filename)}:{frame.lineno} in {frame.name}")
        if frame.line:
            lines.append(f"    {frame.line}")
    hidden = len(stack.frames) - len(shown) + stack.left_out
    if user:
        below = _below(stack.frames)
        if below is not None:
            lines.append(f"  in {wording.current().file(below.filename)}:{below.lineno} {below.name}")
    if hidden:
        lines.append(f"  ({hidden} frame{'s' if hidden > 1 else ''} of flyte_nb, asyncio and libraries hidden)")
    if stack.waits_for:
        lines.append(f"  waits for {stack.waits_for}")
    return "\n".join([stack.state, *lines])


def _below(found: tuple[StackFrame, ...]) -> StackFrame | None:
    """The innermost frame, if it is a library's that the user's code called: "in socket.py:716 recv"."""
    return found[-1] if found and found[-1].kind == source_lines.LIBRARY else None
