"""Rebuild an exception from a failure record, with a real traceback whose frames carry the remote locals.

Runs in: the process that awaits the failed action, above all the kernel.

How a frame is made: a code object that does nothing but raise is compiled for the remote file name, function name and line,
and executed with the remote locals as its namespace. The frame that this leaves behind is what Python, pdb and IPython show
for the remote one. Compiled code is remembered, so that a thousand equal failures compile it once.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import lru_cache
from types import CodeType, FrameType, TracebackType
from typing import Any

from flyte_nb.core.failures import reraise, snapshot, wording
from flyte_nb.core.failures.record import FailureRecord, FrameRecord, Hop
from flyte_nb.core.history import worker_names
from flyte_nb.core.values import redact, source_lines
from flyte_nb.core.values.by_value import exception_parts
from flyte_nb.errors import BaseRuntimeError

#: Files whose remote source is kept in `linecache`. Older ones are dropped: a long session sees many cells.
MAX_SOURCES = 200
#: Marks a file name whose local text differs from what ran remotely.
AS_IT_RAN = " (as it ran)"
_OPTIMIZED = 1  # CPython's CO_OPTIMIZED: set on every function, not on the frames that we make


def to_exception(
    record: FailureRecord, *, error_class: type[BaseRuntimeError] | None = None,
    name_of: Callable[[str], str] | None = None, notes: Iterable[str] = (), worker: str | None = None,
) -> BaseRuntimeError:  # fmt: skip
    """Build (not raise) the exception that the task or cell awaiting a failed action gets.

    Args:
        record: From `flyte_nb.core.failures.capture.capture`.
        error_class: Class of `flyte_nb.errors` to derive from, `RuntimeUserError` by default.
        name_of: Gives the short name (``a17``) that users see for an action's name; by default that of
            `flyte_nb.core.failures.wording`.
        notes: Further lines below the traceback, "3 of 500 failed" say.
        worker: Address of the worker; by default what the record says. The error has its name.

    Returns:
        An instance of both Flyte's class and the original's, with the original as its ``__cause__``. Its traceback already
        ends in the remote frames; raising it puts the local ones in front.
    """
    original = original_exception(record)
    at = worker or (record.origin.worker if record.origin else "")
    own = (*notes_of(record, name_of), *notes)
    error = reraise.raise_as(
        original,
        code=record.code,
        message=record.message,
        kind=record.kind,  # type: ignore[arg-type]  # one of the three, as `reraise.kind_of` made it
        cls=error_class,
        worker=worker_names.name_of(at) or None,
        fallback=getattr(builtins, record.builtin, None),
    )
    present = tuple(getattr(error, "__notes__", ()))
    for note in (*record.notes, *own):
        if note not in present:
            error.add_note(note)
    error.__dict__["_flyte_notes"] = own
    error.__dict__["_flyte_failure"] = record
    error.__traceback__ = build_traceback(record)
    if isinstance(original, BaseExceptionGroup):
        # Its exceptions are in the error itself: as its cause, Python would print all of them twice.
        error.__cause__ = None
        _attach_chain(error, record)
    elif error.__cause__ is original and original is not None:
        _attach_chain(original, record)
    return error


def rebuild(record: FailureRecord, *, all_frames: bool = False) -> tuple[BaseException, TracebackType | None]:
    """The original exception and its remote traceback.

    Args:
        record: From `flyte_nb.core.failures.capture.capture`.
        all_frames: Also frames of libraries and of the machinery; these have no locals.

    Returns:
        The exception, which is the nearest thing to the original that can be had here, and a traceback of the remote
        frames; None if the record has no frames.
    """
    original = original_exception(record)
    if original is None:
        base = getattr(builtins, record.builtin, RuntimeError)
        original = exception_parts.blank(RuntimeError if issubclass(base, BaseExceptionGroup) else base, ())
        original.args = (record.message,)
    tb = build_traceback(record, all_frames=all_frames)
    _attach_chain(original, record)
    return original.with_traceback(tb), tb


def original_exception(record: FailureRecord) -> BaseException | None:
    """The exception as the task raised it, without traceback; None if it could not be pickled, or not be unpickled here."""
    if record.exception is None:
        return None
    try:
        value = snapshot.load(record.exception, record.classes)
        if record.children:
            return _group(value, record)
    except Exception:  # Unpickling imports modules and runs the user's code.
        return None
    return value if isinstance(value, BaseException) else None


def _group(value: Any, record: FailureRecord) -> BaseException:
    cls, message, attributes = value
    # A child that came from another action stays what the group's owner saw: Flyte's error.
    children = [to_exception(child) if child.path else rebuild(child)[0] for child in record.children]
    made = exception_parts.put_together(cls, (message, children), {}, attributes, None)
    if record.children_total > len(children):
        made.add_note(f"and {record.children_total - len(children)} more exceptions, not kept")
    return made


def _attach_chain(error: BaseException, record: FailureRecord) -> None:
    if record.cause is not None:
        error.__cause__ = _chained(record.cause)
    elif record.context is not None:
        error.__context__ = _chained(record.context)


def _chained(record: FailureRecord) -> BaseException:
    return to_exception(record) if record.path else rebuild(record)[0]


def notes_of(record: FailureRecord, name_of: Callable[[str], str] | None = None) -> tuple[str, ...]:
    """Which action failed where, and (once) through which others the error came: one line each."""
    if not record.path:
        return ()
    first, *others = record.path
    tried = f", attempt {first.attempt + 1}" if first.attempt else ""
    where = f" on {worker_names.name_of(first.worker)}" if first.worker else ""
    lines = [f"in action {_named(first, name_of)}{where}{tried}"]
    if others:
        shown = [_named(hop, name_of) for hop in others[:8]]
        if len(others) > len(shown):
            shown.append(f"and {len(others) - len(shown)} more")
        lines.append("awaited by " + " < ".join(shown))
    return tuple(lines)


def _named(hop: Hop, name_of: Callable[[str], str] | None) -> str:
    short = (name_of or wording.current().name_of)(hop.action)
    return f"{short} {hop.label or hop.task}".strip()


# -- Frames ------------------------------------------------------------------------------------------------------------


def build_traceback(record: FailureRecord, *, all_frames: bool = False) -> TracebackType | None:
    """A traceback object of the remote frames: the user's unless there are none, or all (see `rebuild`)."""
    chosen = record.frames if all_frames else shown_frames(record)
    names = _register_sources(record)
    tb: TracebackType | None = None
    for frame in reversed(chosen):
        made = _make(frame, names.get(frame.filename, frame.filename), record.classes)
        made.tb_next = tb
        tb = made
    return tb


def without_machinery(tb: TracebackType | None) -> TracebackType | None:
    """The same traceback without the frames of flyte_nb, asyncio and Dask: for the last function of ours that an error passes.

    A new one, of the same frames; None if there are no others.
    """
    kept: list[TracebackType] = []
    while tb is not None:
        module = str(tb.tb_frame.f_globals.get("__name__", ""))
        kind = source_lines.kind_of(tb.tb_frame.f_code.co_filename, module)
        if kind != source_lines.MACHINE or remote_record(tb.tb_frame) is not None:
            kept.append(tb)
        tb = tb.tb_next
    made: TracebackType | None = None
    for item in reversed(kept):
        made = TracebackType(made, item.tb_frame, item.tb_lasti, item.tb_lineno)
    return made


def shown_frames(record: FailureRecord) -> tuple[FrameRecord, ...]:
    """The user's frames; where there are none, those of libraries; never the machinery's alone."""
    for kinds in ((source_lines.USER,), (source_lines.USER, source_lines.LIBRARY)):
        chosen = tuple(frame for frame in record.frames if frame.kind in kinds)
        if chosen:
            return chosen
    return ()


def _make(frame: FrameRecord, filename: str, classes: dict[str, bytes]) -> TracebackType:
    code = _code(filename, frame.name, frame.firstlineno, frame.lineno, frame.position)
    module = sys.modules.get(frame.module)
    # The live globals of the same module, if it is here: helpers and imports work at the debugger's prompt.
    known: dict[str, Any] = vars(module) if module is not None else {"__name__": frame.module, "__builtins__": builtins}
    made: TracebackType | None = None
    try:
        exec(code, known, RemoteLocals(frame, classes))  # noqa: S102 - it raises, and that's all it does
    except TypeError as exc:
        made = exc.__traceback__
    assert made is not None
    assert made.tb_next is not None  # The first entry is this function's own.
    return made.tb_next


@lru_cache(maxsize=1024)
def _code(filename: str, name: str, first: int, line: int, position: tuple[int, int, int] | None) -> CodeType:
    """Code that raises TypeError at the given line, without looking at a single name."""
    line = max(line, 1)
    first = min(max(first, 1), line)
    end_line, column, end_column = position or (line, 0, 0)
    # Lines are stored relative to the first one, which is replaced below.
    statement = ast.Raise(exc=ast.Constant(0), cause=None)
    for node in (statement, statement.exc):
        assert node is not None
        node.lineno, node.end_lineno = line - first + 1, max(end_line, line) - first + 1
        node.col_offset, node.end_col_offset = column, end_column
    tree = ast.Module(body=[statement], type_ignores=[])
    code = compile(tree, filename, "exec")
    names = {"co_name": name, "co_qualname": name, "co_firstlineno": first}
    return code.replace(co_filename=filename, **names)  # type: ignore[arg-type]


class RemoteLocals(MutableMapping[str, Any]):
    """``f_locals`` of a frame rebuilt from a record: a debugger reads and writes it like any frame's.

    Names that the remote function used as globals are found too, behind its locals, without being listed.

    Args:
        record: The frame.
        classes: Pickled classes of the failure record, by key.
    """

    def __init__(self, record: FrameRecord, classes: dict[str, bytes]) -> None:
        self.record = record
        self._classes = classes
        self._values: dict[str, Any] = dict(record.locals or {})
        self._globals: dict[str, Any] = dict(record.globals or {})

    def __getitem__(self, name: str) -> Any:
        for found in (self._values, self._globals):
            if name in found:
                value = found[name]
                if type(value) in (snapshot.Kept, snapshot.Parts):
                    value = found[name] = snapshot.restore(value, self._classes)
                return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})

    def copy(self) -> dict[str, Any]:
        """A plain dictionary of them, as debuggers make for ``interact``."""
        return {name: self[name] for name in self}


def remote_record(frame: FrameType) -> FrameRecord | None:
    """The record that a frame was rebuilt from; None for an ordinary frame."""
    if frame.f_code.co_flags & _OPTIMIZED:
        return None  # Asked first: reading ``f_locals`` of a function's frame makes a dictionary.
    found = frame.f_locals
    return found.record if isinstance(found, RemoteLocals) else None


# -- Source ------------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
#: File names that we put into linecache, oldest first -> line number -> text.
_registered: OrderedDict[str, dict[int, str]] = OrderedDict()
#: What was found for a source, and the entry of linecache that it was found with.
_named_sources: dict[source_lines.Source, tuple[object, str]] = {}


def _register_sources(record: FailureRecord) -> dict[str, str]:
    """Make the remote source known to `linecache`; returns the file names to use instead of the remote ones."""
    renamed: dict[str, str] = {}
    for source in record.sources:
        name = _name_source(source)
        if name != source.filename:
            renamed[source.filename] = name
    return renamed


@lru_cache(maxsize=MAX_SOURCES)
def _split(text: str) -> tuple[str, ...]:
    return tuple(text.splitlines(keepends=True))


def _name_source(source: source_lines.Source) -> str:
    known = _named_sources.get(source)
    if known is not None and known[0] is linecache.cache.get(source.filename):
        return known[1]
    name = _find_name(source)
    if len(_named_sources) >= 4 * MAX_SOURCES:
        _named_sources.clear()
    _named_sources[source] = (linecache.cache.get(source.filename), name)
    return name


def _find_name(source: source_lines.Source) -> str:
    with _lock:
        own = _registered.get(source.filename)
    if own is None:
        if source_lines.is_notebook_file(source.filename) and linecache.getlines(source.filename):
            return source.filename  # Cells are named by their content: what is here is what ran.
        local = linecache.getlines(source.filename)
        if local:
            if _agrees(local, source):
                return source.filename
            # Edited since, or another file of that name: the local tracebacks must go on showing the local text.
            source = source._replace(filename=source.filename + AS_IT_RAN)
    elif not _agrees(_listed(own), source):
        source = source._replace(filename=source.filename + AS_IT_RAN)
    _add_source(source)
    return source.filename


def _listed(lines: dict[int, str]) -> list[str]:
    return [lines.get(number, "\n") for number in range(1, max(lines, default=0) + 1)]


def _agrees(local: list[str], source: source_lines.Source) -> bool:
    lines = _split(source.text)
    if source.start + len(lines) - 1 > len(local):
        # What is known here is a part: it agrees as far as it goes, unless it claims to be a file.
        return all(ours == "\n" for ours in local[source.start - 1 :])
    for ours, theirs in zip(local[source.start - 1 :], lines, strict=False):
        shortened = redact.MASK in theirs or theirs.endswith("...\n")
        if not shortened and ours != "\n" and ours.rstrip() != theirs.rstrip():
            return False
    return True


def _add_source(source: source_lines.Source) -> None:
    with _lock:
        known = _registered.setdefault(source.filename, {})
        _registered.move_to_end(source.filename)
        fresh = {source.start + index: line for index, line in enumerate(_split(source.text))}
        if source.filename in linecache.cache and fresh.items() <= known.items():
            return
        if source.filename.endswith(AS_IT_RAN):
            known.clear()  # The latest version is the one being looked at.
        known.update(fresh)
        lines = _listed(known)
        # No modification time: `linecache.checkcache` then leaves the entry alone, though there is no such file.
        linecache.cache[source.filename] = (sum(map(len, lines)), None, lines, source.filename)
        while len(_registered) > MAX_SOURCES:
            oldest, _ = _registered.popitem(last=False)
            linecache.cache.pop(oldest, None)
