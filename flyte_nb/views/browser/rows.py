"""Rows of the browser's view: an action, a group, an error, a log line or a run as JSON. Runs in: engine thread.

Pure functions from facts to plain JSON values: no clock, no Jupyter, no user code (labels, previews and error notes come
ready-made in the events). Times are seconds since the run began, rounded to a millisecond, so that they stay short on the
wire. Keys whose value is empty are left out. ``js/src/protocol.ts`` mirrors this file.
"""

from __future__ import annotations

import pickle
from typing import Any

from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import Action, LogLine, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.views.equal_errors import Fold
from flyte_nb.views.labels import Labels
from flyte_nb.views.run_model import LIVE_LINE_CHARS, roots
from flyte_nb.views.words import cut, cut_middle, elapsed, error_line, note_of, ran, shown

#: Version of the protocol: a browser built for another shows a notice.
PROTOCOL = 1
#: Longest label in a row, in characters: a line on a wide screen.
LABEL_CHARS = 160
#: Share of its time in which an action was not executed from which on that is told apart.
BETWEEN = 0.02

Json = dict[str, Any]


class Workers:
    """Short numbers for worker addresses: users see ``w0``. Those of earlier kernels' in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, address: str) -> int:
        """The number of an address: that of its name, or a new one."""
        name = name_of(address)
        if name[:1] == "w" and name[1:].isdigit():
            return int(name[1:])
        return self._numbers.setdefault(address, len(self._numbers))


def since(start: float, at: float | None) -> float | None:
    """Seconds from the run's start to `at`, rounded to a millisecond."""
    return None if at is None else round(at - start, 3)


def row(record: RunRecord, action: Action, workers: Workers, names: Labels | None = None) -> Json:
    """What a row of the tree shows of an action."""
    start = record.state.started_at
    group, index = record.group_of(action.name) or (None, 0)
    label = names.of(action.name, action.label) if names is not None else action.label
    out: Json = {
        "name": action.name, "id": action.number, "parent": action.parent, "group": group.key if group else "",
        "index": index, "label": cut_middle(label or action.task or action.id, LABEL_CHARS),
        "phase": action.phase.code, "queued": since(start, action.queued_at),
    }  # fmt: skip
    if action.started_at is not None:
        out["started"] = since(start, action.started_at)
    if action.ended_at is not None:
        out["ended"] = since(start, action.ended_at)
        whole, executed = elapsed(action.started_at, action.ended_at, 0.0), ran(action, 0.0)
        if whole is not None and executed is not None and whole - executed > max(BETWEEN * whole, 0.01):
            out["ran"] = round(executed, 3)
    elif action.notes or action.earlier:
        out |= _ran_so_far(action)
    if action.kind != "task":
        out["kind"] = action.kind
    attempt = action.attempt
    if attempt is not None:
        if attempt.worker:
            out["worker"] = workers.number(attempt.worker)
        if attempt.number or action.max_attempts > 1:
            out["attempt"] = attempt.number + 1
    if action.max_attempts > 1:
        out["of"] = action.max_attempts
    if action.cached:
        out["cached"] = True
    if note := note_of(action):
        out["note"] = shown(note, 500)
    error = error_line(action)
    if error:
        out["error"] = error
    elif action.preview and action.phase.is_terminal:
        out["preview"] = cut(action.preview, 120)
    if action.kind == "condition" and action.phase is Phase.PAUSED:
        out["asks"] = asks(action)
    if action.name in record.children:
        out["kids"] = len(record.children[action.name])
    return out


def _ran_so_far(action: Action) -> Json:
    """How long an action ran that goes on and did not run all the time: it waits for a person, or between two attempts."""
    attempt, started = action.attempt, action.started_at
    if attempt is None or started is None:
        return {}
    known = (attempt.started_at or started, attempt.ended_at or started, *(note[1] for note in action.notes))
    at = max(started, *known)
    executed = ran(action, at) or 0.0
    if action.phase is Phase.PAUSED or attempt.ended_at is not None:
        return {"ran": round(executed, 3)}
    away = round(at - started - executed, 3)
    return {"away": away} if away > 0 else {}


def asks(action: Action) -> Json:
    """What a condition wants to know, from the arguments that `core.steps.conditions` gave it (plain built-in values)."""
    try:
        about = pickle.loads(action.inputs)[1] if action.inputs is not None else {}
    except Exception:  # Another version's, or cut: it can still be answered with text.
        about = {}
    out = {"type": str(about.get("data_type", "str")), "prompt": cut(str(about.get("prompt") or action.note), 2_000)}
    if about.get("description"):
        out["about"] = cut(str(about["description"]), 2_000)
    return out


def group_row(
    record: RunRecord, group: Group, ended: float | None, names: Labels | None = None, progress: str = ""
) -> Json:  # fmt: skip
    """What a row of the tree shows of a group. `ended`: when its last member ended, epoch seconds; None while any is open."""
    start = record.state.started_at
    first = record.actions[group.members[0]]
    out: Json = {
        "key": group.key, "parent": group.parent, "label": cut_middle(group.label, LABEL_CHARS), "n": len(group.members),
        "counts": list(group.counts), "queued": since(start, first.queued_at),
    }  # fmt: skip
    if group.named:
        out["named"] = True
    if names is not None and (shared := names.shared(group).text):
        out["shared"] = cut_middle(shared, LABEL_CHARS)
    if ended is not None:
        out["ended"] = since(start, ended)
    if progress:
        out["progress"] = progress
    return out


def header(
    record: RunRecord, counts: list[int], rate: float, eta: float | None, share: float | None = None
) -> Json:  # fmt: skip
    """What the one line at the top shows. `rate` in actions a second, `share` that is done; 0, None: not worth showing."""
    state = record.state
    out: Json = {
        "run": state.run, "title": shown(state.headline, LABEL_CHARS), "kind": state.kind, "phase": state.phase.code,
        "epoch": round(state.started_at, 3), "counts": list(counts), "total": sum(counts), "roots": roots(record),
    }  # fmt: skip
    if state.ended_at is not None:
        out["ended"] = since(state.started_at, state.ended_at)
    if state.prompt:
        out["prompt"] = state.prompt
    if state.cell:
        out["cell"] = state.cell
    if state.recovers:
        out["recovers"] = state.recovers
    if state.error is not None:
        out["error"] = error_line(state)
    if rate:
        out["rate"] = round(rate, 1)
    if eta is not None:
        out["eta"] = round(eta, 1)
    if share is not None:
        out["share"] = round(share, 3)
    return out


def error_row(fold: Fold, names: Labels) -> Json:
    """What the list of errors shows of one: its text, how many actions, and the first of them."""
    first = fold.first
    out: Json = {
        "key": fold.key, "n": len(fold.names), "text": fold.text, "where": fold.where,
        "name": first.name, "id": first.number, "label": cut_middle(names.named(first.name, first.label), 80),
    }  # fmt: skip
    if common := names.in_common(fold):
        out["common"] = cut_middle(common, 120)
    return out


def log_line(record: RunRecord, action: str, line: LogLine) -> list[Any]:
    """A line as ``[action name, seconds since the run began, stream, text]``."""
    return [action, since(record.state.started_at, line.at), line.stream, cut(line.text, LIVE_LINE_CHARS)]


def labels(record: RunRecord, names: set[str], known: Labels) -> dict[str, list[Any]]:
    """``{name: [number, label]}``, for the label before each log line."""
    out: dict[str, list[Any]] = {}
    for name in names:
        action = record.actions.get(name)
        if action is not None and action.number >= 0:
            out[name] = [action.number, cut_middle(known.named(name, action.label) or action.task, 60)]
    return out
