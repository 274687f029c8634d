"""Details of one action for a view: inputs, output, the failure's frames, commands that help. Runs in: engine thread.

The engine thread only gathers what is needed; values of the user's are unpickled and shown by a `previews.Reader`, on its
thread, when the reader opens the action and not before.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from flyte_nb.core.failures import traceback_text, wording
from flyte_nb.core.failures.rebuild import original_exception
from flyte_nb.core.failures.record import FailureRecord, FrameRecord
from flyte_nb.core.failures.snapshot import restore
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.transport.payload import Payload, loads
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import plain
from flyte_nb.core.values.source_lines import Source
from flyte_nb.kernel import operations
from flyte_nb.kernel.operations.runs import error_of
from flyte_nb.kernel.operations.why import reason
from flyte_nb.kernel.session import Session
from flyte_nb.kernel.shown_values.previews import Shown, show, text_of
from flyte_nb.kernel.shown_values.sheets import Sheets
from flyte_nb.views.browser.details import log_text
from flyte_nb.views.run_model import is_implied

logger: logging.Logger = logging.getLogger("flyte")

#: Lines of source before and after the one that failed.
BEFORE, AFTER = 3, 1
#: Longest text of a local variable, in characters.
LOCAL_CHARS = 2_000
#: Seconds that a worker has to answer.
WORKER_WITHIN = 3.0
#: Seconds that all workers have for the full log of a run.
LOG_WITHIN = 20.0
#: Longest full log that is fetched, in characters: what a browser saves without trouble.
LOG_CHARS = 64_000_000


class KernelDetails:
    """`flyte_nb.views.browser.details.Details`, from the store, the workers and the user's own values."""

    def __init__(self, session: Session, record: RunRecord) -> None:
        self._session = session
        self._record = record
        self.sheets: Sheets = session.sheets

    async def detail(self, run: str, action: str) -> Mapping[str, Any]:
        """Inputs, output, failure and hints of an action."""
        found = self._record.actions[action]
        out: dict[str, Any] = {"hints": self._hints(found), "why": await reason(self._session, found)}
        if is_implied(self._record, found):
            return out
        inputs: Payload | None = found.inputs
        output: Payload | None = found.output
        missing = inputs is None and found.kind in ("task", "root")
        if missing or (output is None and found.phase is Phase.SUCCEEDED and found.preview):
            shelved = await self._shelved(found)
            output = output if output is not None else shelved.get("output")
            inputs = inputs if inputs is not None else shelved.get("inputs")
            if "table" in shelved:
                out["output"] = {"text": found.preview, "table": shelved["table"]}
            if "arguments" in shelved:
                missing, out["inputs"] = False, shelved["arguments"]
        if missing and inputs is None:
            absent = "<larger than what is kept with an action; its label tells what they are>"
            out["inputs"] = [{"name": "", "text": absent}]
        error = error_of(found)
        record = error.record if error is not None else None

        def unread(why: str) -> dict[str, Any]:
            shown = {"inputs": [{"name": "", "text": f"<{why}>"}]} if inputs is not None else {}
            return {**shown, **_failure(record, why)}

        read = lambda: {**_values(inputs, output, found.task), **_failure(record)}  # noqa: E731
        return out | await self._session.reader.read(read, unread)

    def _hints(self, action: Action) -> list[dict[str, str]]:
        """Lines to paste into a cell; those only whose command exists."""
        known = operations.subcommands()
        latest = self._session.store.find(action.id)
        name = action.id if latest is not None and latest[1] is action else f"{action.run}/{action.id}"
        wanted: list[tuple[str, str]] = []
        failed = action.phase.is_failure or action.phase is Phase.PAUSED
        if failed and action.error is not None and action.error.record is not None:
            wanted.append(("Look at the frame that failed", "debug"))
        if action.phase.is_terminal and action.kind in ("task", "root") and action.phase is not Phase.SUCCEEDED:
            wanted += [("Run it here, step by step", "replay"), ("Run it again on the cluster", "retry")]
        if action.phase is Phase.RUNNING and action.kind in ("task", "root"):
            wanted.append(("What it is doing", "stack"))
        if action.phase is Phase.PAUSED and action.note.startswith("breakpoint"):
            wanted.append(("A prompt on its live frame", "attach"))
        return [{"label": label, "code": f"%flyte {word} {name}"} for label, word in wanted if word in known]

    async def _shelved(self, action: Action) -> dict[str, Any]:
        """What its worker still has of a result that is too large for the store."""
        attempt = action.attempt
        if attempt is None:
            return {}
        found = await ask(self._session, attempt.worker, "shelved", (action.run, action.name), WORKER_WITHIN)
        return found if isinstance(found, dict) else {}

    # -- logs -----------------------------------------------------------------------------------------------------

    async def log_text(self, run: str, action: str | None) -> str:
        """The full log: from the workers' files where lines were left out, else what the store kept."""
        record = self._record
        names = [action] if action is not None else record.logs.actions()
        whole: dict[str, str] = {}
        left, until = LOG_CHARS, asyncio.get_running_loop().time() + LOG_WITHIN
        for name in names:
            found = record.actions.get(name)
            late = asyncio.get_running_loop().time() > until
            if found is None or not record.logs.of(name).hidden or left <= 0 or late:
                continue
            text = await self._file(found, left)
            left -= len(text)
            if text:
                whole[name] = text
        if action is not None:
            return whole.get(action) or log_text(record, action)
        if not whole:
            return log_text(record, None)
        parts = []
        for name in names:
            found = record.actions.get(name)
            title = f"===== {found.id} {plain(found.label)}" if found is not None else f"===== {name}"
            parts.append(f"{title}\n{whole.get(name) or log_text(record, name)}")
        return "".join(parts)

    async def _file(self, action: Action, limit: int) -> str:
        """An action's log files on its workers, attempt by attempt; "" if one of them is not there any more."""
        out = []
        for attempt in action.all_attempts:
            text = await self._attempt_file(action, attempt.worker, attempt.number, limit)
            if text is None:
                return ""
            limit -= len(text)
            out.append(text)
        return "".join(out)

    async def _attempt_file(self, action: Action, worker: str, number: int, limit: int) -> str | None:
        parts: list[str] = []
        at: object = (0, 0)
        while at is not None and limit > 0:
            args = (action.run, action.name, number, at)
            answer = await ask(self._session, worker, "log_file", args, WORKER_WITHIN)
            if not isinstance(answer, tuple):
                return None
            text, at = answer
            limit -= len(text)
            parts.append(text)
        return "".join(parts)


async def ask(session: Session, worker: str, op: str, args: tuple[Any, ...], within: float) -> Any:
    """Ask one worker; None if it is gone, has no answer, or does not answer in time."""
    if worker not in session.engine.network.links:
        return None
    try:
        return await operations.answered(lambda then: session.engine.switchboard.ask(worker, op, args, then), within)
    except TimeoutError:
        return None


# -- on the reader's thread --------------------------------------------------------------------------------------------


def _values(inputs: Payload | None, output: Payload | None, task: str) -> dict[str, Any]:
    """Unpickle and show the inputs and output of an action; the error in place of what does not unpickle."""
    out: dict[str, Any] = {}
    if inputs is not None:
        out["inputs"] = _read(inputs, lambda bound: _arguments(bound, task), lambda text: [{"name": "", "text": text}])
    if output is not None:
        out["output"] = _read(output, show, lambda text: {"text": text})
    return out


def _read(payload: Payload, then: Callable[[Any], Any], unreadable: Callable[[str], Any]) -> Any:
    try:
        return then(loads(payload))
    except Exception as exc:
        return unreadable(f"<cannot be read here: {type(exc).__name__}: {str(exc)[:300]}>")


def _arguments(bound: Any, task_name: str) -> list[Shown]:
    args, kwargs = bound
    task = REGISTRY.latest(task_name)
    names = list(task.interface.inputs) if task is not None else []
    names += [str(n) for n in range(len(names), len(args))]
    pairs = [*zip(names, args, strict=False), *kwargs.items()]
    return [{"name": name, **show(value, name)} for name, value in pairs]


def _failure(data: bytes | None, unread: str = "") -> dict[str, Any]:
    """Frames with source and locals, and the full text; with `unread`, locals stay unread."""
    if data is None:
        return {}
    try:
        record = FailureRecord.loads(data)
        frames = [_frame(frame, record, unread) for frame in record.frames]
        failure = {"frames": frames, "text": redact.scrub(traceback_text.full_text(record))}
        refused = getattr(original_exception(record), "pickled", b"") if record.code == "DataValidationError" else b""
        if refused and not unread:  # what was computed is not lost with its error
            return {"failure": failure, "output": show(pickle.loads(refused))}
        return {"failure": failure}
    except Exception as exc:
        logger.debug("a failure record cannot be read", exc_info=True)
        return {"failure": {"frames": [], "text": f"its record cannot be read: {type(exc).__name__}: {exc}"}}


_IMPORTED = ("<function ", "<module ", "<class ", "<built-in ", "<remote function ", "<remote class ")


def _frame(frame: FrameRecord, record: FailureRecord, unread: str) -> dict[str, Any]:
    kept = frame.locals or {}
    variables = {name: unread or _local(value, record) for name, value in kept.items() if frame.is_user}
    # What a body imports is seldom what went wrong in it.
    variables = dict(sorted(variables.items(), key=lambda item: item[1].startswith(_IMPORTED)))
    return {
        "file": wording.current().file(frame.filename), "line": frame.lineno, "function": frame.name,
        "source": _source(frame, record.sources), "locals": variables, "user": frame.is_user,
    }  # fmt: skip


def _local(kept: object, record: FailureRecord) -> str:
    text = text_of(restore(kept, record.classes))
    return text if len(text) <= LOCAL_CHARS else text[: LOCAL_CHARS - 1] + "…"


def _source(frame: FrameRecord, sources: tuple[Source, ...]) -> str:
    """The failing line with a few around it, each with its number, the failing one marked."""
    known = next((source for source in sources if source.filename == frame.filename), None)
    # The worker knows no cell's text; this kernel does, as long as the cell's file name stands for its content.
    lines = known.text.splitlines() if known else [line.rstrip() for line in linecache.getlines(frame.filename)]
    start = known.start if known else 1
    at = frame.lineno - start
    if not 0 <= at < len(lines) or (frame.line and frame.line not in lines[at]):
        return frame.line
    first = min(at, max(0, at - BEFORE, frame.firstlineno - start))
    shown = range(first, min(len(lines), at + AFTER + 1))
    width = len(str(start + shown[-1]))
    return "\n".join(f"{'>' if i == at else ' '} {start + i:>{width}}  {lines[i]}" for i in shown)
