"""Step: something that a task's body does itself and that is shown, and recorded, as a child action. Runs in: the calling code.

`@trace` calls, durable time and sleep, and conditions are steps. A step's name is deterministic, so that a later attempt of the
task finds in ``context.scope.records`` what an earlier one recorded. Its events go to the controller of this process.
"""

from __future__ import annotations

import hashlib

from flyte_nb.core.control.calls import ResumePoint
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, Phase
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.transport.payload import Payload


def name_step(context: Context, label: str) -> str:
    """Name of a step: made of the calling action, the label, the group, and how often this very step was made."""
    base = hashlib.blake2b(f"{context.action}\0{label}\0{context.group}".encode(), digest_size=10)
    base.update(b"\0%d" % context.scope.next(base.digest()))
    return base.hexdigest()


class Step:
    """One step that is executed in place, and its events.

    Args:
        context: That of the calling code.
        name: Name of its action.
        task: What is shown in place of a task's name.
        label: Text of the call.
        kind: "trace", "sleep" or "dask".
    """

    def __init__(self, context: Context, name: str, task: str, label: str, kind: str = "trace") -> None:
        self.context = context
        self.run: str = context.run.name
        self.name = name
        #: What an earlier attempt of the task left of it: its result, or the state to resume it from; None: it is new.
        self.found: Payload | ResumePoint | None = context.scope.records.get(name)
        self._shown = (task, label, kind)
        self._seq, self._attempt = 0, 0
        self._began = 0.0

    @property
    def record(self) -> Payload | None:
        """The result that an earlier attempt recorded; None if there is none."""
        return self.found if type(self.found) is not ResumePoint else None  # type: ignore[return-value]

    def queue(self, at: float, attempts: int = 1, inputs: bytes | None = None) -> None:
        """Show it, as not begun."""
        context, (task, label, kind) = self.context, self._shown
        self._emit(
            ev.ActionQueued(self.run, self.name, context.action, task, label, context.group, at, kind, attempts, inputs)
        )

    def resume(self, at: float, seq: int, attempt: int, note: str = "") -> None:
        """Show that it is executed again; `seq` must be greater than that of the last state that was published."""
        self._seq, self._attempt = seq, attempt
        self._emit(ev.ActionNoted(self.run, self.name, seq, Phase.QUEUED, at, note, attempt))

    def begin(self, at: float) -> None:
        """An attempt at it begins."""
        self._began = at
        self._emit(ev.AttemptStarted(self.run, self.name, self._attempt, at))

    def note(self, at: float, text: str) -> None:
        """Show how far it is."""
        self._seq += 1
        self._emit(ev.ActionNoted(self.run, self.name, self._seq, Phase.RUNNING, at, text, self._attempt))

    def end(
        self, phase: Phase, at: float, error: ErrorNote | None = None, output: bytes | None = None, preview: str = ""
    ) -> None:
        """It has ended, and so has its attempt if one has begun."""
        if self._began:
            ok = phase is Phase.SUCCEEDED
            self._emit(ev.AttemptEnded(self.run, self.name, self._attempt, self._began, at, ok, error=error))
        self._emit(ev.ActionEnded(self.run, self.name, self._seq + 1, phase, at, error, output=output, preview=preview))

    def _emit(self, event: ev.Event) -> None:
        self.context.gateway.emit(event)
