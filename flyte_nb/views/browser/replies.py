"""Replies to the browser's requests: details, logs, search results, time axis, reports. Runs in: engine thread."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flyte_nb.core.history.facts import Action
from flyte_nb.views.browser import query, timeline
from flyte_nb.views.browser.details import REPORT_CHARS, Details, action_log, base_detail, log_text
from flyte_nb.views.browser.interest import parse_interest
from flyte_nb.views.browser.patches import SNAPSHOT_LINES, PatchStream
from flyte_nb.views.browser.rows import Json, labels, log_line, row
from flyte_nb.views.browser.tables import TableReplies, reply_file
from flyte_nb.views.run_model import LOG_CHARS, NamedLine
from flyte_nb.views.words import cut

logger: logging.Logger = logging.getLogger(__name__)

#: Longest text of one field in a detail (a preview, a local variable), in characters.
FIELD_CHARS = 20_000
#: Frames of a failure shown.
MAX_FRAMES = 100
#: Local variables shown per frame.
MAX_LOCALS = 100
#: Rows and columns of a table, and characters in its cells.
MAX_TABLE_ROWS, MAX_COLUMNS, CELL_CHARS = 60, 40, 200
#: Failures of opened actions remembered for the static page.
MAX_FAILURES = 20

Send = Callable[[Mapping[str, Any], list[bytes]], None]
#: Does a command that is not the view's own: (op, args, nonce); its result, or an awaitable of it, is the reply.
Control = Callable[[str, Mapping[str, Any], str], Any]


class Replies:
    """Request and response beside the stream of patches.

    Args:
        patches: The run, as the browser sees it.
        details: What the session knows of actions beyond the store.
        send: Sends a JSON value and buffers to the browser.
    """

    def __init__(self, patches: PatchStream, details: Details | None, send: Send) -> None:
        self._patches = patches
        self._details = details
        self._send = send
        self._ops: dict[str, Callable[[Mapping[str, Any], str], Awaitable[None] | None]] = {
            "visible_rows": self._visible_rows, "query": self._query, "detail": self._detail, "logs": self._logs,
            "timeline": self._timeline, "report": self._report, "download": self._download, "peek": self._peek,
            **TableReplies(patches, getattr(details, "sheets", None), self._reply).ops,
        }  # fmt: skip

    def answers(self, op: str) -> bool:
        """Whether it knows this operation."""
        return op in self._ops

    def handle(self, op: str, args: Mapping[str, Any], nonce: str) -> Awaitable[None] | None:
        """Do what it `answers`; an awaitable for the slow part, if any."""
        answer = self._ops[op](args, nonce)
        return None if answer is None else self._guarded(answer, nonce)

    def command(self, control: Control, op: str, args: Mapping[str, Any], nonce: str) -> Awaitable[None] | None:
        """Have a command done that is not the view's own, and reply its result; an awaitable if that comes later."""
        try:
            result = control(op, args, nonce)
        except Exception as error:
            logger.exception("%s failed", op)
            result = {"error": f"{op.replace('_', ' ')} failed: {type(error).__name__}: {error}"[:500]}
        if inspect.isawaitable(result):
            return self._guarded(self._relay(result, nonce), nonce)
        self._reply(nonce, answer_of(result))
        return None

    async def _relay(self, result: Awaitable[Any], nonce: str) -> None:
        self._reply(nonce, answer_of(await result))

    async def _guarded(self, work: Awaitable[None], nonce: str) -> None:
        try:
            await work
        except Exception as error:
            logger.debug("a request of the view failed", exc_info=True)
            self._reply(nonce, {"error": f"{type(error).__name__}: {cut(str(error), 500)}"})

    def _reply(self, nonce: str, content: Json, buffers: list[bytes] | None = None) -> None:
        self._send({"kind": "reply", "to": nonce, **content}, buffers or [])

    def _visible_rows(self, args: Mapping[str, Any], _nonce: str) -> None:
        self._patches.show(str(args.get("view", ""))[:64], parse_interest(args))

    async def _query(self, args: Mapping[str, Any], nonce: str) -> None:
        model, record = self._patches.model, self._patches.record
        found = await query.search(record, query.parse_query(args), model.errors, model.clock())
        rows = [self._row(record.actions[record.numbered[n]]) for n in found.numbers[:60]]
        content = {"total": found.total, "n": len(found.numbers), "rows": rows}
        self._reply(nonce, content, [found.numbers.tobytes(), *([found.took.tobytes()] if found.took else [])])

    def _row(self, action: Action) -> Json:
        return row(self._patches.record, action, self._patches.workers, self._patches.model.labels)

    def _find(self, args: Mapping[str, Any]) -> Action:
        name, record = str(args.get("action", "")), self._patches.record
        action = record.find(name)
        if action is None:
            raise LookupError(f"there is no action {name[:80]!r} in {record.state.run}")
        return action

    async def _detail(self, args: Mapping[str, Any], nonce: str) -> None:
        record, texts = self._patches.record, self._patches.model.failure_texts
        action = self._find(args)
        model = self._patches.model
        out = base_detail(record, action, model.labels, self._patches.workers, model.clock())
        more = self._details.detail(record.state.run, action.name) if self._details is not None else {}
        if inspect.isawaitable(more):
            more = await more
        out.update(bounded_detail(more))
        if "failure" in out and len(texts) < MAX_FAILURES:
            texts[action.name] = out["failure"]["text"]
        out["log"] = action_log(record, action)
        out["row"] = self._row(action)
        self._reply(nonce, {"detail": out})

    async def _logs(self, args: Mapping[str, Any], nonce: str) -> None:
        record, level = self._patches.record, str(args.get("level", ""))
        if args.get("action"):
            action = self._find(args)
            self._reply(
                nonce,
                {
                    "log": action_log(record, action),
                    "labels": labels(record, {action.name}, self._patches.model.labels),
                },
            )
        elif (wanted := str(args.get("text", ""))[:500]) or level:
            self._send_lines(nonce, *await query.search_log(record, self._patches.model.labels, wanted, level))
        else:
            latest = self._patches.model.log.last(4 * SNAPSHOT_LINES, 16 * LOG_CHARS)
            self._send_lines(nonce, latest, record.logs.total)

    def _send_lines(self, nonce: str, lines: list[NamedLine], total: int) -> None:
        record = self._patches.record
        log = {
            "head": [], "hidden": max(0, total - len(lines)),
            "tail": [log_line(record, name, line) for name, line in lines], "total": total,
        }  # fmt: skip
        self._reply(
            nonce, {"log": log, "labels": labels(record, {name for name, _ in lines}, self._patches.model.labels)}
        )

    async def _timeline(self, args: Mapping[str, Any], nonce: str) -> None:
        patches = self._patches
        low, high = _seconds(args.get("from")), _seconds(args.get("to"))
        window = (low, high) if low is not None and high is not None and high > low else None
        content, buffers = await timeline.timeline(patches.record, patches.model.clock(), window)
        for lane in content["lanes"]:
            lane.append(patches.workers.number(lane[0]))
        self._reply(nonce, content, buffers)

    async def _report(self, args: Mapping[str, Any], nonce: str) -> None:
        action = self._find(args)
        tab = str(args.get("tab", ""))
        page = self._patches.record.reports.get((action.name, tab), "")
        self._reply(nonce, {"html": page[:REPORT_CHARS], "cut": len(page) > REPORT_CHARS})

    async def _download(self, args: Mapping[str, Any], nonce: str) -> None:
        action = self._find(args) if args.get("action") else None
        run = self._patches.record.state.run
        name = action.name if action else None
        text = log_text(self._patches.record, name) if self._details is None else self._details.log_text(run, name)
        if inspect.isawaitable(text):
            text = await text
        reply_file(self._reply, nonce, f"{run}{'-' + action.id if action else ''}.log", text)

    def _peek(self, args: Mapping[str, Any], nonce: str) -> None:
        """The row of one member of a group, for a pointer that hovers over a heat strip."""
        record = self._patches.record
        group = record.groups.get(str(args.get("group", "")))
        index = args.get("index")
        if group is None or not isinstance(index, int) or not 0 <= index < len(group.members):
            return
        self._reply(nonce, {"row": self._row(record.actions[group.members[index]])})


def answer_of(result: object) -> Json:
    """The reply to a button's press, from its result: there is one for every press, and a refusal always has a text."""
    if not isinstance(result, Mapping):
        return {"text": str(result)} if isinstance(result, str) and result else {"ok": True}
    out = dict(result)
    if out.get("ok") is False and not out.get("error"):
        out["error"] = str(out.pop("text", "")) or "There is nothing to do: it has ended already, or is not known here."
    return out


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def bounded_detail(more: Mapping[str, Any]) -> Json:
    """The session's details of an action, with every text cut and every list bounded."""
    out: Json = {}
    if isinstance(inputs := more.get("inputs"), list):
        known = [one for one in inputs[:50] if isinstance(one, Mapping)]
        out["inputs"] = [{"name": cut(str(one.get("name", "")), 200), **_value(one)} for one in known]
    if isinstance(output := more.get("output"), Mapping):
        out["output"] = _value(output)
    if isinstance(failure := more.get("failure"), Mapping):
        frames = failure.get("frames")
        out["failure"] = {
            "frames": [_frame(one) for one in (frames if isinstance(frames, list) else [])[-MAX_FRAMES:]],
            "text": cut(str(failure.get("text", "")), 4 * FIELD_CHARS),
        }
    if why := more.get("why"):
        out["why"] = cut(str(why), 500)
    if isinstance(hints := more.get("hints"), list):
        out["hints"] = [
            {"label": cut(str(one.get("label", "")), 100), "code": cut(str(one.get("code", "")), 500)}
            for one in hints[:10] if isinstance(one, Mapping)
        ]  # fmt: skip
    return out


def _value(one: Mapping[str, Any]) -> Json:
    out: Json = {"text": cut(str(one.get("text", "")), FIELD_CHARS)}
    if isinstance(table := one.get("table"), Mapping):
        out["table"] = _table(table)
    if isinstance(page := one.get("html"), str) and len(page) <= REPORT_CHARS:
        out["html"] = page
    png = one.get("png")
    if isinstance(png, str) and len(png) <= 2 * REPORT_CHARS and re.fullmatch(r"[A-Za-z0-9+/=\s]*", png):
        out["png"] = png
    return out


def _table(table: Mapping[str, Any]) -> Json:
    def row(cells: Any) -> list[str]:
        return [cut(str(cell), CELL_CHARS) for cell in cells[:MAX_COLUMNS]] if isinstance(cells, list) else []

    rows = table.get("rows")
    return {
        "head": row(table.get("head")),
        "rows": [row(cells) for cells in rows[:MAX_TABLE_ROWS]] if isinstance(rows, list) else [],
        "said": cut(str(table.get("said", "")), 200), "index": bool(table.get("index")),
    }  # fmt: skip


def _frame(frame: Mapping[str, Any]) -> Json:
    found = frame.get("locals")
    variables = found if isinstance(found, Mapping) else {}
    return {
        "file": cut(str(frame.get("file", "")), 300),
        "line": frame.get("line") if isinstance(frame.get("line"), int) else 0,
        "function": cut(str(frame.get("function", "")), 200), "source": cut(str(frame.get("source", "")), 2_000),
        "locals": {cut(str(k), 100): cut(str(v), 2_000) for k, v in list(variables.items())[:MAX_LOCALS]},
        "user": bool(frame.get("user", True)),
    }  # fmt: skip
