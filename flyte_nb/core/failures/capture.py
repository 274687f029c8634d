"""Capture a failure as a record: exception, traceback, locals, source. Runs in: worker process (and wherever a task runs).

`capture` is called when a task has raised, and only then: a task that succeeds pays nothing. A simple failure costs well
under a millisecond. Size and time are bounded: no foreign ``repr`` is called, values are measured before they are pickled
(see `flyte_nb.core.failures.snapshot`), and the time is checked between values. The one thing that runs the user's code without
a bound is ``str(exception)``, which Flyte's semantics ask for.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from types import CodeType, FrameType, TracebackType
from typing import Any

from flyte_nb.core.failures import pickle_policy, reraise, snapshot
from flyte_nb.core.failures.rebuild import remote_record
from flyte_nb.core.failures.record import FailureRecord, FrameRecord, Hop, record_of, safe_str
from flyte_nb.core.failures.snapshot import SizeBudget
from flyte_nb.core.failures.stand_ins import Summary
from flyte_nb.core.values import dual_class, redact, source_lines
from flyte_nb.core.values.source_lines import Source

#: Bytes of pickled locals in one record. A thousand records must fit into 200 MB.
MAX_LOCALS = 64_000
#: Bytes of the pickled exception: one that drags a data frame along keeps a summary of it.
MAX_EXCEPTION = 64_000
#: Seconds that one record may take; checked between values.
MAX_SECONDS = 0.5
#: Frames kept from the start and from the end of a traceback: a recursion has a thousand.
FIRST_FRAMES, LAST_FRAMES = 10, 30
#: Locals of one frame. A notebook's module level may have hundreds of names.
MAX_LOCAL_NAMES = 60
#: Innermost frames of the user's that keep the globals they use.
FRAMES_WITH_GLOBALS = 4
#: Characters of one message or note.
MAX_MESSAGE_CHARS = 16_000
#: Causes and contexts behind one another, and groups inside groups.
MAX_CHAIN = 4
#: Exceptions of a group that keep their frames, and that are kept at all.
DETAILED_CHILDREN, MAX_CHILDREN = 16, 500
#: Actions in the path of an exception.
MAX_PATH = 50
#: Longest search, in instructions, for the columns of a failing expression.
MAX_INSTRUCTIONS = 4_000


def capture(
    exc: BaseException, *, task: str, action: str, label: str, attempt: int, worker: str = "", user_only: bool = True
) -> FailureRecord:
    """Make the record of a failed attempt.

    Args:
        exc: What the task raised, with its traceback.
        task: Full name of the task.
        action: Name of the action within its run.
        label: The call as the user knows it: "square(17)". Secrets in it are masked.
        attempt: Counts from 0.
        worker: Address of this worker; "" if there is none.
        user_only: Keep locals of the user's frames only. False: of library frames too, never of the machinery's.

    Returns:
        The record. An error that came from a child action keeps the child's frames, code and message, and has this action
        added to its path.
    """
    budget = SizeBudget(MAX_LOCALS, MAX_SECONDS)
    return _Capture(budget, user_only).record(exc, Hop(action, task, label, attempt, worker))


class _Capture:
    """One record in the making: what is shared by an exception, its causes and its children."""

    def __init__(self, budget: SizeBudget, user_only: bool) -> None:
        self._budget = budget
        self._user_only = user_only
        self._seen: set[int] = set()
        self._with_globals = FRAMES_WITH_GLOBALS

    def record(self, exc: BaseException, hop: Hop | None, depth: int = 0, light: bool = False) -> FailureRecord:
        self._seen.add(id(exc))
        inner = record_of(exc)
        if inner is not None:
            return self._pass_on(exc, inner, hop, light)
        classes: dict[str, bytes] = {}
        made, left_out, sources = ((), 0, ()) if light else self._frames(exc.__traceback__, 0)
        cause, context = (None, None) if light else self._chain(exc, depth)
        return FailureRecord(
            type_name=_class_name(type(exc)), message=self._text(safe_str(exc)),
            code=reraise.code_of(exc), kind=reraise.kind_of(exc),
            exception=self._pack(exc, classes), classes=classes,
            builtin=reraise.nearest_builtin(type(exc)).__name__,
            notes=self._notes(exc), path=(self._clean(hop),) if hop else (),
            frames=made, sources=sources, left_out=left_out, cause=cause, context=context,
            children=self._children(exc, depth, light) if isinstance(exc, BaseExceptionGroup) else (),
            children_total=len(exc.exceptions) if isinstance(exc, BaseExceptionGroup) else 0,
        )  # fmt: skip

    def _pass_on(self, exc: BaseException, inner: FailureRecord, hop: Hop | None, light: bool) -> FailureRecord:
        """An error of a child action goes through: the origin's record, with the frames of this action in front."""
        if light:
            return inner._replace(frames=(), sources=(), cause=None, context=None, children=())
        self._budget.size -= _locals_size(inner)
        # Frames rebuilt from the child's record stand in the traceback too: the record has them all.
        own, left_out, sources = self._frames(exc.__traceback__, len(inner.path), rebuilt=False)
        made = own + inner.frames
        if len(made) > FIRST_FRAMES + LAST_FRAMES:
            left_out += len(made) - FIRST_FRAMES - LAST_FRAMES
            made = made[:FIRST_FRAMES] + made[-LAST_FRAMES:]
        known = {(source.filename, source.start) for source in inner.sources}
        added = tuple(source for source in sources if (source.filename, source.start) not in known)
        path = (*inner.path, *((self._clean(hop),) if hop else ()))[:MAX_PATH]
        return inner._replace(
            path=path, frames=made, sources=inner.sources + added, left_out=inner.left_out + left_out, notes=self._notes(exc)
        )  # fmt: skip

    def _text(self, text: str) -> str:
        return redact.scrub(text[:MAX_MESSAGE_CHARS], self._budget.secrets)

    def _clean(self, hop: Hop) -> Hop:
        return hop._replace(label=redact.scrub_code(hop.label, self._budget.secrets)[:500])

    def _notes(self, exc: BaseException) -> tuple[str, ...]:
        ours = exc.__dict__.get("_flyte_notes", ())
        found = exc.__dict__.get("__notes__") or ()
        return tuple(self._text(note) for note in list(found)[:50] if type(note) is str and note not in ours)

    def _pack(self, exc: BaseException, classes: dict[str, bytes]) -> bytes | None:
        value: object = exc
        if isinstance(exc, BaseExceptionGroup):
            value = (type(exc), exc.message, {k: v for k, v in exc.__dict__.items() if k != "__notes__"})
        try:
            return snapshot.dump(value, self._budget, MAX_EXCEPTION, classes)
        except Exception:
            classes.clear()  # Its text and its nearest built-in base travel all the same.
            return None

    def _chain(self, exc: BaseException, depth: int) -> tuple[FailureRecord | None, FailureRecord | None]:
        if depth >= MAX_CHAIN:
            return None, None
        cause, context = exc.__cause__, exc.__context__
        if cause is not None and id(cause) not in self._seen:
            return self.record(cause, None, depth + 1), None
        if cause is None and context is not None and not exc.__suppress_context__ and id(context) not in self._seen:
            return None, self.record(context, None, depth + 1)
        return None, None

    def _children(self, exc: BaseExceptionGroup[Any], depth: int, light: bool) -> tuple[FailureRecord, ...]:
        if depth >= MAX_CHAIN:
            return ()
        return tuple(
            self.record(child, None, depth + 1, light=light or index >= DETAILED_CHILDREN or self._budget.late)
            for index, child in enumerate(exc.exceptions[:MAX_CHILDREN])
        )

    def _frames(
        self, tb: TracebackType | None, hop: int, *, rebuilt: bool = True
    ) -> tuple[tuple[FrameRecord, ...], int, tuple[Source, ...]]:
        chain, left_out = _select(tb)
        self._note_secrets(chain)
        entry = next((p for p in map(_package, chain) if p), "")
        made: list[FrameRecord] = []
        sources: dict[tuple[str, int], Source] = {}
        # From the innermost frame outwards: if bytes or time run out, the locals nearest to the failure have been kept.
        for item in reversed(chain):
            known = remote_record(item.tb_frame)
            if known is not None:
                if rebuilt:
                    made.append(known)
                continue
            made.append(self._frame(item, hop, entry))
            if made[-1].is_user:
                code = item.tb_frame.f_code
                source = source_lines.source_of(code.co_filename, code.co_firstlineno, item.tb_lineno)
                if source is not None:
                    sources[source.filename, source.start] = _scrubbed(source, self._budget.secrets)
        made.reverse()
        return tuple(made), left_out, tuple(sources.values())

    def _note_secrets(self, chain: list[TracebackType]) -> None:
        """Find the values that go by a secret name in any frame before a first one is kept, under whatever name."""
        for item in chain:
            code, module = item.tb_frame.f_code, item.tb_frame.f_globals.get("__name__", "")
            names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
            if not any(map(redact.is_secret_name, names)) or type(module) is not str:
                continue
            if source_lines.kind_of(code.co_filename, module) == source_lines.USER:
                for name, value in item.tb_frame.f_locals.items():
                    self._budget.note(name, value)

    def _frame(self, item: TracebackType, hop: int, entry: str) -> FrameRecord:
        frame, code, line = item.tb_frame, item.tb_frame.f_code, item.tb_lineno
        module = frame.f_globals.get("__name__", "")
        module = module if type(module) is str else ""
        kind = source_lines.kind_of(code.co_filename, module)
        if kind == source_lines.LIBRARY and entry and module.partition(".")[0] == entry:
            kind = source_lines.USER  # The task itself lives in an installed package.
        text = _clean_line(source_lines.line_of(code.co_filename, line), self._budget.secrets)
        made = FrameRecord(code.co_filename, line, code.co_name, module, kind, code.co_firstlineno, None, text, hop=hop)
        if kind == source_lines.USER or (kind == source_lines.LIBRARY and not self._user_only):
            used = self._globals(frame) if kind == source_lines.USER and self._with_globals > 0 else None
            made = made._replace(position=_position(code, item.tb_lasti), locals=self._locals(frame), globals=used)
        return made

    def _locals(self, frame: FrameType) -> dict[str, object]:
        found = frame.f_locals
        if found is frame.f_globals:
            plain = ((k, v) for k, v in list(found.items()) if pickle_policy.verdict(type(v)) not in _DEFINITIONS)
            found = {k: v for k, v in plain if k[:1] != "_"}
        names = [name for name in itertools.islice(found, 10 * MAX_LOCAL_NAMES) if not name.startswith(("__", "."))]
        kept = {name: snapshot.keep(name, found[name], self._budget) for name in names[:MAX_LOCAL_NAMES]}
        if len(names) > MAX_LOCAL_NAMES:
            kept["..."] = Summary(f"{len(names) - MAX_LOCAL_NAMES} more names", "left out")
        return kept

    def _globals(self, frame: FrameType) -> dict[str, object]:
        self._with_globals -= 1
        known = frame.f_globals
        if frame.f_locals is known:
            return {}
        used = [name for name in frame.f_code.co_names if name in known and name not in frame.f_locals]
        return {
            name: snapshot.keep(name, known[name], self._budget)
            for name in used[:MAX_LOCAL_NAMES]
            if pickle_policy.verdict(type(known[name])) not in _NOT_SHOWN
        }


_NOT_SHOWN = frozenset({pickle_policy.Verdict.FUNCTION, pickle_policy.Verdict.CLASS, pickle_policy.Verdict.OPAQUE})
_DEFINITIONS = _NOT_SHOWN | {pickle_policy.Verdict.MODULE}


def _select(tb: TracebackType | None) -> tuple[list[TracebackType], int]:
    chain: list[TracebackType] = []
    while tb is not None and len(chain) < 100_000:  # a traceback tied into a loop by hand would never end
        chain.append(tb)
        tb = tb.tb_next
    surplus = len(chain) - FIRST_FRAMES - LAST_FRAMES
    if surplus <= 0:
        return chain, 0
    return chain[:FIRST_FRAMES] + chain[-LAST_FRAMES:], surplus


def _package(item: TracebackType) -> str:
    """Top-level package of a frame that is not the machinery's; "" otherwise."""
    module = item.tb_frame.f_globals.get("__name__", "")
    if type(module) is not str:
        return ""
    kind = source_lines.kind_of(item.tb_frame.f_code.co_filename, module)
    return module.partition(".")[0] if kind != source_lines.MACHINE else ""


def _position(code: CodeType, instruction: int) -> tuple[int, int, int] | None:
    if not 0 <= instruction < 2 * MAX_INSTRUCTIONS:
        return None
    found = next(itertools.islice(code.co_positions(), instruction // 2, None), None)
    if found is None or None in found[1:]:
        return None
    _, end_line, column, end_column = found
    return (end_line, column, end_column)  # type: ignore[return-value]  # None was excluded above


@lru_cache(maxsize=4096)
def _clean_line(line: str, secrets: tuple[str, ...]) -> str:
    return redact.scrub_code(line, secrets)


@lru_cache(maxsize=512)
def _scrubbed(source: Source, secrets: tuple[str, ...]) -> Source:
    return source._replace(text=redact.scrub_code(source.text, secrets))


def _locals_size(record: FailureRecord) -> int:
    return sum(snapshot.size_of(value) for frame in record.frames for value in (frame.locals or {}).values())


def _class_name(cls: type) -> str:
    cls = (dual_class.original_of(cls) if issubclass(cls, BaseException) else None) or cls
    name, module = cls.__qualname__, cls.__module__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"
