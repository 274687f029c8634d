"""What a retry takes beyond events: calls that failed, and results too large for an event. Runs in: controller's thread.

A controller at home (a kernel's, or local mode's) has one. Everything here is a reference to what was in memory anyway; it
is given up with its run, or when it is too much.
"""

from __future__ import annotations

from collections import OrderedDict

from flyte_nb.core.control.calls import Call
from flyte_nb.core.transport.payload import Payload, nbytes

#: Bytes of arguments and results kept in all, over what events hold. The oldest go first.
MAX_BYTES = 512 * 1024 * 1024
#: Entries kept: a run of 100,000 actions of which each fails keeps this many of them.
MAX_ENTRIES = 200_000

Key = tuple[str, str]


class Retained:
    """Calls and results by (run, action)."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._calls: OrderedDict[Key, tuple[Call, int]] = OrderedDict()
        self._results: OrderedDict[Key, tuple[Payload, int]] = OrderedDict()
        self._customs: OrderedDict[Key, tuple[tuple[str, str], ...]] = OrderedDict()

    def keep_call(self, call: Call) -> None:
        """Keep the call of an action that failed, or that a run begins with."""
        key = (call.run.name, call.name)
        size = nbytes(call.payload)
        self.nbytes += size - self._calls.pop(key, (call, 0))[1]
        self._calls[key] = (call, size)
        self._trim()

    def keep_result(self, call: Call, result: Payload) -> None:
        """Keep a result that is too large for the action's record."""
        key = (call.run.name, call.name)
        size = nbytes(result)
        self.nbytes += size - self._results.pop(key, (result, 0))[1]
        self._results[key] = (result, size)
        self._trim()

    def keep_custom(self, call: Call) -> None:
        """Keep the custom context of a call; most have none."""
        self._customs[call.run.name, call.name] = call.custom
        if len(self._customs) > MAX_ENTRIES:
            self._customs.popitem(last=False)

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
        return found[0] if found else None

    def drop_call(self, call: Call) -> None:
        """The action succeeded after all."""
        found = self._calls.pop((call.run.name, call.name), None)
        self.nbytes -= found[1] if found else 0

    def forget_others(self, runs: set[str]) -> None:
        """Give up everything of runs that are not among `runs`."""
        for kept in (self._calls, self._results):
            for key in [key for key in kept if key[0] not in runs]:
                self.nbytes -= kept.pop(key)[1]
        for key in [key for key in self._customs if key[0] not in runs]:
            del self._customs[key]

    def _trim(self) -> None:
        while self.nbytes > self.max_bytes or len(self._calls) + len(self._results) > MAX_ENTRIES:
            # Results can be computed again, arguments of a failed action can't.
            oldest = self._results or self._calls
            if not oldest:
                return
            self.nbytes -= oldest.popitem(last=False)[1][1]
