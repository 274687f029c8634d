"""Details of one action, fetched when a reader opens it. Runs in: engine thread.

The session may implement `Details` and add previews of inputs and the failure's frames to what is in the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from flyte_nb.core.history.facts import Action, Attempt, ErrorNote, LogLine
from flyte_nb.core.history.parts import growing, parts_of
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.values.describe import plain
from flyte_nb.views.browser.rows import LABEL_CHARS, Json, Workers, log_line, since
from flyte_nb.views.labels import Labels
from flyte_nb.views.run_model import is_implied
from flyte_nb.views.words import cut, cut_middle, location, note_of, part_word

#: Log lines of one action sent when it is opened.
DETAIL_LINES = 1_000
#: Longest text of a full log that is sent for download, in characters.
DOWNLOAD_CHARS = 16_000_000
#: Longest HTML report sent, in characters.
REPORT_CHARS = 1_000_000


class Details(Protocol):
    """What a view asks of the session when a reader opens an action. Every method may return a value or an awaitable of it.

    `detail` returns a dict of any of: ``inputs``: a list of ``{"name"}`` with a value; ``output``: a value, ``{"text", "table",
    "png" (base64), "html"}`` where a table is ``{"head": [text], "rows": [[text]], "said", "index": bool}``;
    ``failure``: ``{"frames": [{"file", "line", "function", "source", "locals": {name: text}, "user": bool}], "text"}``;
    ``hints``: ``[{"label", "code"}]`` (lines to paste into a cell). All are bounded by the caller; the view escapes everything
    and shows ``html`` in a frame without script. ``sheets``, where there is one, makes its table (`tables.Sheets`).
    """

    def detail(self, run: str, action: str) -> Mapping[str, Any] | Awaitable[Mapping[str, Any]]:
        """More about an action."""
        ...

    def log_text(self, run: str, action: str | None) -> str | Awaitable[str]:
        """The full log of an action, or of the whole run, as text."""
        ...


def base_detail(record: RunRecord, action: Action, names: Labels, workers: Workers, now: float) -> Json:
    """What the store knows of an action: identity, times, attempts, error, reports, preview; `now` in seconds of the epoch."""
    start = record.state.started_at
    out: Json = {
        "name": action.name, "id": action.number, "task": action.task, "label": cut(action.label, 2_000),
        "short": cut_middle(names.named(action.name, action.label), LABEL_CHARS),
        "kind": action.kind, "note": note_of(action), "queued": since(start, action.queued_at),
        "started": since(start, action.started_at), "ended": since(start, action.ended_at),
        "max_attempts": action.max_attempts, "cached": action.cached,
        "attempts": [_attempt(start, a, workers) for a in action.all_attempts],
        "reports": [tab for name, tab in record.reports if name == action.name],
        "path": [[a.number, cut_middle(names.named(a.name, a.label) or a.task, 80)] for a in _ancestors(record, action)],
    }  # fmt: skip
    if not is_implied(record, action):
        out["parts"] = [
            [part, part_word(part, action.task), round(seconds, 3)]
            for part, seconds in parts_of(record, action, now).items()
        ]
        out["at"] = since(start, now)
        if not action.phase.is_terminal:
            out["grows"] = growing(record, action)
    if action.preview:
        out["output"] = {"text": cut(action.preview, 20_000)}
    error = action.error or (action.attempt.error if action.attempt else None)
    if error is not None:
        out["error"] = _error(error)
    return out


def _ancestors(record: RunRecord, action: Action) -> list[Action]:
    out: list[Action] = []
    parent = record.actions.get(action.parent)
    while parent is not None and not is_implied(record, parent) and len(out) < 50:
        out.append(parent)
        parent = record.actions.get(parent.parent)
    out.reverse()
    return out


def _attempt(start: float, attempt: Attempt, workers: Workers) -> Json:
    usage = attempt.usage
    return {
        "number": attempt.number, "started": since(start, attempt.started_at),
        "ended": since(start, attempt.ended_at), "worker": f"w{workers.number(attempt.worker)}" if attempt.worker else "",
        "address": attempt.worker, "pid": attempt.pid, "slot": attempt.slot, "busy": round(attempt.busy, 3), "ok": attempt.ok,
        "cpu": round(usage.cpu, 3), "memory": usage.memory, "taken": usage.taken, "given": usage.given,
        "error": _error(attempt.error) if attempt.error else None,
    }  # fmt: skip


def _error(error: ErrorNote) -> Json:
    message, where = plain(error.message), location(error.where)
    return {"kind": error.kind, "code": error.code, "message": message, "where": where}


def action_log(record: RunRecord, action: Action) -> Json:
    """The log of one action: its head, what is hidden, its tail; at most `DETAIL_LINES`."""
    log = record.logs.of(action.name)
    head, tail = log.head, list(log.tail)
    room = DETAIL_LINES - len(head)
    if len(tail) > room:
        tail = tail[-room:]
    hidden = log.total - len(head) - len(tail)

    def lines(part: list[LogLine]) -> list[list[Any]]:
        return [log_line(record, action.name, line) for line in part]

    return {"head": lines(head), "hidden": hidden, "tail": lines(tail), "total": log.total}


def log_text(record: RunRecord, name: str | None) -> str:
    """The lines of an action, or of all merged by time with the action's label before each, as plain text."""
    if name is not None:
        log = record.logs.of(name)
        out = [plain(line.text) for line in log.head]
        if log.hidden:
            out.append(f"... {log.hidden:,} lines not kept ...")
        out.extend(plain(line.text) for line in log.tail)
    else:
        found = {n: a for n in record.logs.actions() if (a := record.actions.get(n))}
        labels = {name: f"{action.id} {cut_middle(action.label, 40)}" for name, action in found.items()}
        out = [f"[{labels.get(n, n)}] {plain(line.text)}" for n, line in record.logs.merged()]
        if record.logs.hidden:
            out.insert(0, f"... {record.logs.hidden:,} of {record.logs.total:,} lines not kept ...")
    text = "\n".join(out) + "\n" if out else ""
    return text if len(text) <= DOWNLOAD_CHARS else text[-DOWNLOAD_CHARS:]
