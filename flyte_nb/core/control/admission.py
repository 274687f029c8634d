"""Admission: bound how many children of an action execute at once (`max_action_concurrency`). Runs in: controller's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from flyte_nb.core.control.flight import ActionInFlight


class Admission:
    """Passes actions to `execute` up to their parent's limit, and holds the others back in order."""

    def __init__(self, execute: Callable[[ActionInFlight], None]) -> None:
        self._execute = execute
        #: By (run, parent): actions held back, and how many execute.
        self._held: dict[tuple[str, str], deque[ActionInFlight]] = {}
        self._active: dict[tuple[str, str], int] = {}

    def admit(self, flight: ActionInFlight) -> None:
        """Execute an action, now or once its parent's limit allows."""
        limit = flight.call.run.max_action_concurrency
        if limit:
            key = (flight.call.run.name, flight.call.parent)
            active = self._active.get(key, 0)
            if active >= limit:
                self._held.setdefault(key, deque()).append(flight)
                return
            self._active[key] = active + 1
            flight.admitted = True
        self._execute(flight)

    def release(self, flight: ActionInFlight) -> None:
        """Count an action no longer, since it has ended or is parked; execute those that this lets in."""
        key = (flight.call.run.name, flight.call.parent)
        held = self._held.get(key)
        if not flight.admitted:
            if held and flight in held:
                held.remove(flight)
            return
        flight.admitted = False
        self._active[key] -= 1
        while held and self._active[key] < flight.call.run.max_action_concurrency:
            self._active[key] += 1
            following = held.popleft()
            following.admitted = True
            self._execute(following)
        if not held:
            self._held.pop(key, None)
        if not self._active[key]:
            del self._active[key]

    def holds(self, flight: ActionInFlight) -> bool:
        """Whether an action is held back."""
        return flight in self._held.get((flight.call.run.name, flight.call.parent), ())

    def why(self, flight: ActionInFlight) -> str:
        """Why an action is held back, as a clause; "" if it is not."""
        if not self.holds(flight):
            return ""
        held = self._held[flight.call.run.name, flight.call.parent]
        before, limit = held.index(flight), flight.call.run.max_action_concurrency
        return f"the limit max_action_concurrency={limit}" + (f", {before:,} before it" if before else "")

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))
