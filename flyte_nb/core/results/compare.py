"""Compare two runs: what became slower or faster, failed or was mended, whose result changed. Runs in: the calling code.

Actions are matched by what identifies a call: parent, task, inputs, and how often that very call was made; the code of the task
may differ. What has no match then is below a parent with other inputs, as a rule: there the parent does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from flyte_nb.core.control.calls import call_site_of
from flyte_nb.core.history.facts import Action
from flyte_nb.core.results.actions import Payloads, kept
from flyte_nb.core.runs.run import Run
from flyte_nb.core.tasks.prepare import inputs_key
from flyte_nb.core.transport.payload import Payload, key_bytes, loads
from flyte_nb.core.values.value_hash import content_hash

#: Times as long, and seconds longer, from which on an action counts as slower.
FACTOR, SECONDS = 1.25, 0.05

#: An action, and what is kept of it.
_Kept = tuple[Action, Payloads]


class Difference(NamedTuple):
    """One action that is not in the latter run what it was in the former."""

    #: "failed", "mended", "result changed", "slower", "faster", "new" or "gone".
    what: str
    label: str
    #: "a2", "" where there is none.
    before: str
    after: str
    #: Seconds; None where it did not run.
    seconds_before: float | None = None
    seconds_after: float | None = None
    detail: str = ""


class Comparison(NamedTuple):
    """Two runs side by side."""

    before: str
    after: str
    #: Actions that both have.
    matched: int
    differences: tuple[Difference, ...]
    #: Seconds of each, before and after, where it ran in both.
    times: tuple[tuple[float, float], ...] = ()

    def to_pandas(self) -> Any:
        """The differences as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.differences, columns=list(Difference._fields))

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for each in self.differences:
            counts[each.what] = counts.get(each.what, 0) + 1
        summary = ", ".join(f"{n:,} {what}" for what, n in counts.items()) or "no difference"
        return f"{self.before} and {self.after}: {self.matched:,} call{'s' * (self.matched != 1)} in both, {summary}"


def compare(before: Run, after: Run) -> Comparison:
    """What differs between two runs, in order of interest."""
    old, new = _by_site(before), _by_site(after)
    both = [(old.pop(site), new.pop(site)) for site in [*old] if site in new]
    left, right = _by_call(old.values()), _by_call(new.values())
    both += [(left.pop(call), right.pop(call)) for call in [*left] if call in right]
    found = [difference for one, other in both for difference in _differences(*one, *other)]
    found += [Difference("gone", action.label, action.id, "") for action, _ in left.values()]
    found += [Difference("new", action.label, "", action.id) for action, _ in right.values()]
    order = ("failed", "mended", "result changed", "slower", "faster", "new", "gone")
    found.sort(key=lambda each: (order.index(each.what), -abs((each.seconds_after or 0) - (each.seconds_before or 0))))
    times = ((_took(old), _took(new)) for (old, _), (new, _) in both)
    ran = tuple((was, now) for was, now in times if was is not None and now is not None)
    return Comparison(before.name, after.name, len(both), tuple(found), ran)


def _by_site(run: Run) -> dict[str, _Kept]:
    actions = [action for action in run.backend.actions if action.number >= 0 and action.kind in {"task", "trace"}]
    root = run.backend.action
    if root is not None and root.kind == "root" and root.inputs is not None:
        actions.append(root)
    return {call_site_of(a.name): (a, found) for a, found in zip(actions, kept(run, actions), strict=True)}


def _by_call(left: Iterable[_Kept]) -> dict[tuple[str, str, bytes, int], _Kept]:
    """By kind, task, inputs (where those are not kept: the label), and which of such calls it is."""
    seen: Counter[tuple[str, str, bytes]] = Counter()
    found = {}
    for action, payloads in left:
        call = action.kind, action.task, _inputs_of(action, payloads.inputs)
        seen[call] += 1
        found[*call, seen[call]] = action, payloads
    return found


def _inputs_of(action: Action, payload: Payload | None) -> bytes:
    if payload is None:
        return action.label.encode()
    try:
        return inputs_key(payload, loads(payload))
    except Exception:  # what the user's objects raise, or a large buffer that is gone
        return key_bytes(payload)


def _differences(old: Action, was: Payloads, new: Action, now: Payloads) -> list[Difference]:
    found = []
    times = (_took(old), _took(new))

    def differs(what: str, detail: str = "") -> None:
        found.append(Difference(what, new.label, old.id, new.id, *times, detail))

    if new.phase.is_failure and not old.phase.is_failure:
        differs("failed", f"{new.error.code}: {new.error.message}"[:200] if new.error else "")
    elif old.phase.is_failure and new.phase.is_success:
        differs("mended", f"{old.error.code}: {old.error.message}"[:200] if old.error else "")
    elif was.output is not None and now.output is not None and _changed(was.output, now.output):
        differs("result changed", f"{old.preview} -> {new.preview}"[:200])
    before, after = times
    if before and after and abs(after - before) > SECONDS:
        if after > FACTOR * before:
            differs("slower", f"{after / before:.1f} x")
        elif before > FACTOR * after:
            differs("faster", f"{before / after:.1f} x")
    return found


def _changed(old: Payload, new: Payload) -> bool:
    """Whether two results differ; equal ones may have different pickles."""
    if key_bytes(old) == key_bytes(new):
        return False
    try:
        return content_hash(loads(old)) != content_hash(loads(new))
    except Exception:  # what the user's objects raise
        return True


def _took(action: Action) -> float | None:
    ran = not action.cached and action.phase.is_terminal
    return action.ended_at - action.started_at if ran and action.ended_at and action.started_at else None
