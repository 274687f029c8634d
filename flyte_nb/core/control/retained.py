"""Failed calls and large results, retained in memory for retries: what events do not hold. Runs in: controller's thread.

A controller at home (a kernel's, or local mode's) has a `Retained`. Everything in it is a reference to what was in memory
anyway; it is dropped with its run, or when the bounds are reached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from flyte_nb.core.control.calls import Call
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.transport.payload import Payload, nbytes

#: Bytes of arguments and results retained in all, over what events hold. The oldest are dropped first.
MAX_RETAINED_BYTES = 512 * 1024 * 1024
#: Entries retained: a run of 100,000 actions of which each fails keeps this many of them.
MAX_ENTRIES = 200_000

Key = tuple[str, str]


class Retains(Protocol):
    """Retention of calls and results, of which a controller reports each action's start and end."""

    def began(self, call: Call) -> None:
        """An action is taken."""

    def ended(self, call: Call, phase: Phase, result: Payload | None, large: bool) -> None:
        """An action has ended, with a result or (None) without; `large`: it is not in the action's record."""


class Keeper(Protocol):
    """What keeps on disk what is retained here: `flyte_nb.core.journal.journal.Journal`."""

    def keep_result(self, run: str, action: str, payload: Payload) -> None:
        """Keep a result that is too large for an event."""

    def keep_call(self, call: Call) -> None:
        """Keep a call's arguments, if they are too large for an event."""

    def keep_custom(self, call: Call) -> None:
        """Keep a call's custom context."""


class Retained:
    """Calls and results by (run, action)."""

    #: None where nothing is kept on disk.
    keeper: Keeper | None = None
    #: Finds on disk a large "result" of an action of an earlier kernel's run, or its "inputs"; None if it has none.
    shelf: Callable[[str, str, str], Payload | None] = staticmethod(lambda _run, _action, _what: None)

    def __init__(self, max_bytes: int = MAX_RETAINED_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes: int = 0
        self._calls: OrderedDict[Key, tuple[Call, int]] = OrderedDict()
        self._results: OrderedDict[Key, tuple[Payload, int]] = OrderedDict()
        self._customs: OrderedDict[Key, tuple[tuple[str, str], ...]] = OrderedDict()

    def began(self, call: Call) -> None:
        """Keep the call that a run begins with, and the custom context of any; most have none."""
        if call.kind == "root":
            self.keep_call(call)
        if call.custom:
            self._customs[call.run.name, call.name] = call.custom
            if self.keeper is not None:
                self.keeper.keep_custom(call)
            if len(self._customs) > MAX_ENTRIES:
                self._customs.popitem(last=False)

    def ended(self, call: Call, phase: Phase, result: Payload | None, large: bool) -> None:
        """Keep a call that failed, or a large result."""
        if result is None:
            self.keep_call(call)
            return
        if phase is Phase.SUCCEEDED and call.kind != "root":
            self.drop_call(call)
        if large:
            self.keep_result(call.run.name, call.name, result)

    def keep_call(self, call: Call) -> None:
        """Keep the call of an action that failed, or that a run begins with."""
        key = (call.run.name, call.name)
        size = nbytes(call.payload)
        self.nbytes += size - self._calls.pop(key, (call, 0))[1]
        self._calls[key] = (call, size)
        if self.keeper is not None:
            self.keeper.keep_call(call)
        self._trim()

    def keep_result(self, run: str, action: str, result: Payload) -> None:
        """Keep a result that is too large for the action's record."""
        self.put_result(run, action, result)
        if self.keeper is not None:
            self.keeper.keep_result(run, action, result)
        self._trim()

    def custom(self, run: str, action: str) -> tuple[tuple[str, str], ...]:
        """The custom context of a call; empty if it had none, or it is not kept."""
        return self._customs.get((run, action), ())

    def call(self, run: str, action: str) -> Call | None:
        """The call of an action; None if it is not kept."""
        found = self._calls.get((run, action))
        return found[0] if found else None

    def result(self, run: str, action: str) -> Payload | None:
        """The large result of an action; None if it is not kept."""
        found = self._results.get((run, action))
        return found[0] if found else self.shelf(run, action, "result")

    def put_result(self, run: str, action: str, result: Payload) -> None:
        """Keep a large result in memory alone: it is on disk, perhaps in another form."""
        key = (run, action)
        size = nbytes(result)
        self.nbytes += size - self._results.pop(key, (result, 0))[1]
        self._results[key] = (result, size)

    def put_custom(self, run: str, action: str, custom: tuple[tuple[str, str], ...]) -> None:
        """Keep the custom context of a call of an earlier kernel."""
        self._customs[run, action] = custom

    def drop_call(self, call: Call) -> None:
        """Drop the call of an action that has succeeded in the end."""
        found = self._calls.pop((call.run.name, call.name), None)
        self.nbytes -= found[1] if found else 0

    def forget_others(self, runs: set[str]) -> None:
        """Drop everything of runs that are not among `runs`."""
        for retained in (self._calls, self._results):
            for key in [key for key in retained if key[0] not in runs]:
                self.nbytes -= retained.pop(key)[1]
        for key in [key for key in self._customs if key[0] not in runs]:
            del self._customs[key]

    def _trim(self) -> None:
        while self.nbytes > self.max_bytes or len(self._calls) + len(self._results) > MAX_ENTRIES:
            # Results can be computed again, arguments of a failed action can't.
            oldest = self._results or self._calls
            if not oldest:
                return
            self.nbytes -= oldest.popitem(last=False)[1][1]
