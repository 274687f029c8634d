"""Breakpoints: ``breakpoint()`` in an action pauses it until a debugger is attached. Runs in: worker, lane's thread.

Theory of operation. The body's thread runs an ordinary pdb whose input and output are a `PausedAttempt`. Where pdb would read
a line, the thread releases its compute slot and waits; lines come from the kernel (``%flyte attach``) through the worker's
loop, and what pdb printed goes back when it asks for the next one. An async body blocks its lane's loop meanwhile: other
attempts on the same lane are paused with it, as under any debugger.
"""

from __future__ import annotations

import ctypes
import fnmatch
import logging
import pdb  # noqa: T100 - it is what this is about
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flyte_nb.core.attempts.body import Body
from flyte_nb.core.control.questions import Then
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.tasks import context as ctx
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.values import source_lines
from flyte_nb.engine.links.wire import Key
from flyte_nb.worker import slots
from flyte_nb.worker.lanes.lane import LaneThread

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds between two checks of a waiting thread whether its attempt was stopped.
LOOK_EVERY = 0.2
#: Characters of pdb's output that wait to be fetched; the rest is left out: ``p`` of a large table.
MAX_TEXT = 100_000
#: Modules that the debugger steps over.
STEPPED_OVER = (
    "asyncio", "asyncio.*", "concurrent.*", "contextvars", "distributed", "distributed.*", "flyte_nb", "flyte_nb.*",
    "selectors", "threading", "tornado.*",
)  # fmt: skip


class PausedAttempt:
    """An attempt at a breakpoint: pdb's input and output. Its thread waits; the worker's loop answers the kernel."""

    def __init__(self, lane: LaneThread, body: Body, wait: float) -> None:
        self._lane = lane
        self.body = body
        #: Seconds to wait for a debugger, and for its next line.
        self.wait = wait
        #: "12.py:4 in work", where it is paused.
        self.where = ""
        self.attached: bool = False
        #: Whether it is at pdb's prompt.
        self.waiting: bool = False
        #: Whether its breakpoints are passed over from now on.
        self.over: bool = False
        #: Its attempt has ended.
        self.done: bool = False
        self._inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._text: list[str] = []
        self._size = 0
        self._then: Then | None = None

    # -- pdb's side: the body's thread ----------------------------------------------------------------------------

    def write(self, text: str) -> int:
        """Take what pdb prints; what is too much is cut."""
        if self._size < MAX_TEXT:
            self._text.append(text)
            self._size += len(text)
            if self._size >= MAX_TEXT:
                self._text.append("\n... (the rest is left out)\n")
        return len(text)

    def flush(self) -> None:
        """Nothing to do: text is fetched when pdb asks for a line."""

    def readline(self) -> str:
        """The next line for pdb: waits for it, without holding a slot; "continue" if no debugger is attached in time."""
        if self.over or self.body.stop:
            return "continue\n"
        if not self.attached:
            self._note(Phase.PAUSED, f"breakpoint at {self.where}")
        self.waiting = True
        self._lane.host.post(self._deliver, "prompt")
        try:
            with slots.suspended():
                return self._next_line()
        finally:
            self.waiting = False

    def _next_line(self) -> str:
        deadline = time.monotonic() + self.wait
        while True:
            try:
                return self._inbox.get(timeout=LOOK_EVERY)
            except queue.Empty:
                if self.over or self.body.stop:
                    return "continue\n"
                if self.attached:
                    deadline = time.monotonic() + self.wait
                elif time.monotonic() > deadline:
                    logger.warning("breakpoint: nobody attached within %g s; it goes on", self.wait)
                    return "continue\n"

    def left(self) -> None:
        """Pdb continues."""
        self.attached = False
        self._note(Phase.RUNNING, "")
        self._lane.host.post(self._deliver, "left")

    def _note(self, phase: Phase, note: str) -> None:
        """Have the owner note what the attempt does now."""
        self._lane.host.post(self._send_note, phase, note)

    def _send_note(self, phase: Phase, note: str) -> None:
        key = self.body.work.key
        if key in self._lane.bodies:
            self._lane.host.send(self._lane.owner, ("noted", key, phase, note))

    # -- the kernel's side: the worker's loop ---------------------------------------------------------------------

    def attach(self, then: Then, sources: dict[str, str], hold: bool) -> None:
        """Attach a debugger: `then` gets where the attempt is paused. `hold`: it waits for its lines however long."""
        for filename, text in sources.items():
            source_lines.register_source(filename, text)
        if hold:
            self.attached = True
            self._note(Phase.PAUSED, f"breakpoint at {self.where}, attached")
        self._text, self._size = [], 0
        self.type(then, "here")

    def type(self, then: Then, line: str) -> None:
        """Type a line for pdb: `then` gets what it printed, when it asks for the next one or goes on."""
        self._deliver("prompt")  # to another page that waits for its answer
        self._then = then
        self._inbox.put(line + "\n")

    def detach(self) -> None:
        """Detach the debugger: the attempt goes on at once, or at its next prompt."""
        self.attached, self.over = False, True
        self._deliver("left")

    def _deliver(self, state: str) -> None:
        then, self._then = self._then, None
        if then is not None:
            text, self._text, self._size = "".join(self._text), [], 0
            then({"text": text, "state": state, "where": self.where})

    def ended(self) -> None:
        """The attempt has ended."""
        self.done = True
        self._deliver("ended")


class RemotePdb(pdb.Pdb):
    """pdb on a `PausedAttempt`. Leaving it, in whatever way, lets the action go on."""

    def __init__(self, paused: PausedAttempt) -> None:
        super().__init__(stdin=paused, stdout=paused, nosigint=True, readrc=False)  # type: ignore[arg-type]  # as much of a file
        self.use_rawinput = False
        self.prompt = ""
        self._paused = paused
        self._stopped = False

    def trace_dispatch(self, frame: FrameType, event: str, arg: Any) -> Any:
        """As the base class, until the attempt has ended: its thread then executes others."""
        if self._paused.done:
            sys.settrace(None)
            return None
        return super().trace_dispatch(frame, event, arg)

    def stop_here(self, frame: FrameType) -> bool:
        """Not in the machinery, where ``next`` at the end of a body would land, nor in another attempt on the same loop."""
        if _is_machinery(frame):
            return False
        context = ctx.current()
        if context is None or context.action != self._paused.body.work.action:
            return False
        return bool(super().stop_here(frame))

    def interaction(self, frame: FrameType | None, traceback: Any) -> None:
        """Note where it is paused, then prompt; where the body is over, go on."""
        if frame is None or _is_machinery(frame):
            self.set_continue()
            return
        if self._stopped:  # else where ``breakpoint()`` stands, and not the line after it
            self._paused.where = _place(frame)
        self._stopped = True
        super().interaction(frame, traceback)

    def set_continue(self) -> None:
        """Go on."""
        super().set_continue()
        self._paused.left()

    def default(self, line: str) -> None:
        """Execute a statement; what it assigns is the frame's at once.

        Before Python 3.13 it would become so when the frame goes on, and be lost if anybody looks at its variables until then,
        as ``where`` does.
        """
        super().default(line)
        if sys.version_info < (3, 13):
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(self.curframe), ctypes.c_int(0))

    def print_stack_trace(self, *_count: Any) -> None:
        """Print where it is paused, and what called that, of the user's."""
        for frame, line in self.stack:
            file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__", ""))
            if file != "<string>" and source_lines.kind_of(file, module) == source_lines.USER:
                self.print_stack_entry((frame, line))

    def do_here(self, _arg: str) -> None:
        """Print where it is paused."""
        self.lastcmd = ""
        self.print_stack_entry(self.stack[self.curindex])

    def do_quit(self, arg: str) -> Any:
        """Let the action go on: quitting the debugger does not end it."""
        return self.do_continue(arg)

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> Any:  # noqa: N802 - pdb's name
        """Let the action go on."""
        return self.do_continue(arg)

    def do_interact(self, _arg: str) -> None:
        """Not at a distance."""
        self.message("interact is not available on a worker; type statements at this prompt, one line each")


def _place(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_machinery(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return any(fnmatch.fnmatch(module, pattern) for pattern in STEPPED_OVER)


class Breakpoints:
    """The breakpoints of one worker.

    Args:
        lane_of: Finds the lane and the attempt of an action, by the names of run and action.
    """

    def __init__(self, lane_of: Callable[[str, str], tuple[LaneThread, Body] | None]) -> None:
        self._lane_of = lane_of
        #: Attempts that have been paused, by key; they stay until they end.
        self.paused: dict[Key, PausedAttempt] = {}
        #: Runs in which breakpoints are passed over.
        self._off: set[str] = set()

    def reached(self, frame: FrameType | None, context: Context) -> None:
        """An action of this host calls ``breakpoint()`` in a frame."""
        found = self._lane_of(context.run.name, context.action)
        if frame is not None and found is not None:
            self._hit(frame, context, *found)

    def _hit(self, frame: FrameType, context: Context, lane: LaneThread, body: Body) -> None:
        wait = context.run.breakpoint_wait
        file = frame.f_code.co_filename
        in_cell = source_lines.is_notebook_file(file)  # the worker doesn't know which
        where = f"line {frame.f_lineno} of its cell" if in_cell else f"{Path(file).name}:{frame.f_lineno}"
        if wait <= 0 or context.run.name in self._off:
            seen = context.scope.attachments.setdefault("breakpoints", set())
            if where not in seen and wait <= 0:
                seen.add(where)
                logger.warning("breakpoint, %s, is passed over: nobody can attach in this run", where)
            return
        key = body.work.key
        paused = self.paused.get(key)
        if paused is None:
            paused = self.paused[key] = PausedAttempt(lane, body, wait)
        if not paused.over:
            paused.where = _place(frame)
            logger.warning("stopped at breakpoint, %s: `%%flyte attach` opens it, within %g s", where, wait)
            RemotePdb(paused).set_trace(frame)

    def find(self, run: str, action: str) -> PausedAttempt | None:
        """An action that waits at pdb's prompt; None if it does not."""
        found = (paused for key, paused in self.paused.items() if key[:2] == (run, action) and paused.waiting)
        return next(found, None)

    def attach(self, then: Then, run: str, action: str, sources: dict[str, str], hold: bool = True) -> None:
        """Attach to an action: `then` gets what pdb shows, or None if it has gone on.

        Without `hold` it goes on by itself as if nobody had attached: a page may be closed at any time.
        """
        if (paused := self.find(run, action)) is None:
            then(None)
        else:
            paused.attach(then, sources, hold)

    def type_line(self, then: Then, run: str, action: str, line: str) -> None:
        """Type a line for pdb: `then` gets what it printed once it asks for the next, or has gone on."""
        if (paused := self.find(run, action)) is None:
            then(None)
        else:
            paused.type(then, line)

    def detach(self, run: str, action: str) -> bool:
        """Let an action go on, now or at its next breakpoint."""
        found = [paused for key, paused in self.paused.items() if key[:2] == (run, action)]
        for paused in found:
            paused.detach()
        return bool(found)

    def ended(self, key: Key) -> None:
        """An attempt has ended."""
        if (paused := self.paused.pop(key, None)) is not None:
            paused.ended()

    def turn_off(self, run: str) -> int:
        """Let all paused attempts of a run go on, and pass over its breakpoints; returns how many were paused."""
        self._off.add(run)
        waiting = [paused for key, paused in self.paused.items() if key[0] == run and paused.waiting]
        for paused in waiting:
            paused.detach()
        return len(waiting)

    def forget(self, run: str) -> None:
        """The run is over."""
        self._off.discard(run)
