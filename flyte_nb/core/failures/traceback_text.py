"""Text of a failure for people: short with the user's frames only, or in full. Runs in: wherever an error is shown.

IPython asks an exception for ``_render_traceback_``; the errors of `flyte_nb.errors` answer with `render`.
"""

from __future__ import annotations

import itertools
import linecache
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from flyte_nb.core.failures import wording
from flyte_nb.core.failures.rebuild import remote_record, shown_frames
from flyte_nb.core.failures.record import FailureRecord, FrameRecord, Hop, record_of, safe_str, summary_of
from flyte_nb.core.history import worker_names
from flyte_nb.core.values import dual_class, source_lines
from flyte_nb.core.values.describe import plain

#: Frames shown of one error, from the start and from the end; a recursion has hundreds.
MAX_ERROR_FRAMES = 12
#: Different errors of a group that are shown with their place.
MAX_FOLDS = 10
#: Lines of source before the failing one.
CONTEXT_BEFORE = 2
#: Notes that are shown.
MAX_NOTES = 100
#: Longest text of an exception that is looked at, in characters.
MAX_PLAIN = 100_000
#: Longest message in a short text, in characters; the full one is in `full_text`.
MAX_MESSAGE = 2_000

_RED, _GREEN, _BLUE, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[34m", "\x1b[39m"


class Frame(NamedTuple):
    """One frame as it is shown."""

    filename: str
    lineno: int
    name: str
    #: The action that it ran in; None for the process where the text is read.
    hop: Hop | None
    #: The line as the record has it, for when its file is unknown here.
    line: str


def render(error: BaseException) -> list[str]:
    """The short traceback of any exception, as a list of lines: what IPython prints; of a failed action with its place."""
    try:
        return _render(error)
    except Exception:  # An error that cannot be shown nicely must still be shown.
        return "".join(traceback.format_exception(error)).splitlines()


def render_group(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """The short text of an exception group: equal errors folded, each with its place. Of `render`'s shape."""
    try:
        inside = _group_part(group)
        return [*_head(group), *_local_part(group), *inside, _last_line(group), *_notes(group), *_group_hints(group)]
    except Exception:  # See `render`.
        return "".join(traceback.format_exception(group)).splitlines()


def _render(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return render_group(error)
    record = record_of(error)
    lines = [*_head(error), *_local_part(error)]
    if record is not None:
        lines += _chain_part(record)
    lines += [_last_line(error), *_notes(error)]
    if record is not None:
        lines += _hints(record)
    return lines


def _head(error: BaseException) -> list[str]:
    name = _name(error)
    title = "Traceback (most recent call last)"
    return [_paint(_RED, "-" * 75), _paint(_RED, name) + title.rjust(max(75 - len(name), len(title) + 2))]


def _name(error: BaseException) -> str:
    return (dual_class.original_of(type(error)) or type(error)).__name__


def _last_line(error: BaseException) -> str:
    message = plain(safe_str(error)[:MAX_PLAIN])
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + f"... ({len(message):,} characters)"
    return _paint(_RED, _name(error)) + (f": {message}" if message else "")


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return [plain(str(note)[:MAX_PLAIN]) for note in itertools.islice(notes, MAX_NOTES)]


# -- Frames ------------------------------------------------------------------------------------------------------------


def _local_part(error: BaseException) -> list[str]:
    shown, hidden = frames_of(error)
    lines: list[str] = []
    hop: Hop | None = None
    skipped = len(shown) - MAX_ERROR_FRAMES
    for index, frame in enumerate(shown):
        if skipped > 0 and MAX_ERROR_FRAMES // 2 <= index < MAX_ERROR_FRAMES // 2 + skipped:
            if index == MAX_ERROR_FRAMES // 2:
                lines += [f"    [{skipped} more frames]", ""]
            continue
        if frame.hop is not None and frame.hop != hop:
            lines.append(_paint(_BLUE, f"--> in action {_hop_text(frame.hop)}"))
        hop = frame.hop
        lines += [*_frame_lines(frame), ""]
    if hidden:
        lines.append(f"    [{hidden} frame{'s' if hidden > 1 else ''} of flyte_nb, asyncio and libraries hidden]")
    return lines


def frames_of(error: BaseException) -> tuple[list[Frame], int]:
    """The user's frames of an error, local ones and remote ones, outermost first; and the number of all the others."""
    record = record_of(error)
    shown: list[Frame] = []
    hidden, remote = 0, False
    tb: TracebackType | None = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        known = remote_record(tb.tb_frame)
        if known is not None:
            remote = True
            shown.append(_remote_frame(known, code.co_filename, record))
        elif (
            source_lines.kind_of(code.co_filename, str(tb.tb_frame.f_globals.get("__name__", ""))) == source_lines.USER
        ):
            shown.append(Frame(code.co_filename, tb.tb_lineno, code.co_name, None, ""))
        else:
            hidden += 1
        tb = tb.tb_next
    if record is not None:
        if not remote:  # It was pickled since, and pickling loses tracebacks.
            shown += [_remote_frame(frame, frame.filename, record) for frame in shown_frames(record)]
        hidden += len(record.frames) - len(shown_frames(record)) + record.left_out
    return shown, hidden


def _remote_frame(known: FrameRecord, filename: str, record: FailureRecord | None) -> Frame:
    hop = record.path[known.hop] if record is not None and known.hop < len(record.path) else None
    return Frame(filename, known.lineno, known.name, hop, known.line)


def _hop_text(hop: Hop) -> str:
    short = wording.current().name_of(hop.action)
    where = f" on {worker_names.name_of(hop.worker)}" if hop.worker else ""
    return plain(f"{short} {hop.label or hop.task}".strip() + where)


def _frame_lines(frame: Frame) -> Iterator[str]:
    file = wording.current().file(frame.filename)
    inside = "" if frame.name == "<module>" or frame.name.startswith("<cell line") else f", in {frame.name}"
    if file.startswith("Cell "):
        yield f"{_paint(_GREEN, file)}, line {frame.lineno}{inside}"
    else:
        yield f"File {_paint(_GREEN, f'{file}:{frame.lineno}')}{inside}"
    yield from _source_lines(frame)


def _source_lines(frame: Frame) -> Iterator[str]:
    lines = linecache.getlines(frame.filename)
    if not 0 < frame.lineno <= len(lines) or not lines[frame.lineno - 1].strip():
        if frame.line:
            yield f"{'----> ' + str(frame.lineno):>10} {frame.line}"
        return
    for number in range(max(1, frame.lineno - CONTEXT_BEFORE), frame.lineno + 1):
        text = lines[number - 1].rstrip()[: source_lines.MAX_LINE]
        if number == frame.lineno:
            yield f"{_paint(_GREEN, f'----> {number}'.rjust(10))} {text}"
        elif text:
            yield f"{number:>10} {text}"


def _chain_part(record: FailureRecord) -> Iterator[str]:
    """One line for each exception behind the failure."""
    behind, words = (record.cause, "caused by") if record.cause else (record.context, "while handling")
    while behind is not None:
        yield f"    {words} {plain(behind.summary)}" + (f" ({behind.where})" if behind.where else "")
        behind, words = (behind.cause, "caused by") if behind.cause else (behind.context, "while handling")
    for line in fold_records(record.children):
        yield f"    {line}"


# -- Groups ------------------------------------------------------------------------------------------------------------


def fold(errors: Iterable[BaseException]) -> list[str]:
    """One line for each kind of error: "397 x KeyError: 'a' - first: square(17)". Groups among them are opened."""
    return fold_texts((summary_of(error), _origin(record_of(error))) for error in leaves(errors))


def fold_records(records: Iterable[FailureRecord]) -> list[str]:
    """`fold`, for records."""
    return fold_texts((record.summary, _origin(record)) for record in records)


def leaves(errors: Iterable[BaseException]) -> Iterator[BaseException]:
    """The exceptions inside groups, in order, and all the others."""
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error.exceptions)
        else:
            yield error


def _origin(record: FailureRecord | None) -> str:
    return _hop_text(record.path[0]._replace(worker="")) if record is not None and record.path else ""


def fold_texts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """`fold`, for (text of an error, action it comes from)."""
    counts: dict[str, list[str]] = {}
    for text, origin in pairs:
        counts.setdefault(plain(text), []).append(plain(origin))
    lines = []
    for text, origins in list(counts.items())[:MAX_FOLDS]:
        first = f" - {'first: ' if len(origins) > 1 else ''}{origins[0]}" if origins[0] else ""
        lines.append((f"{len(origins)} x " if len(origins) > 1 else "") + text + first)
    if len(counts) > MAX_FOLDS:
        lines.append(f"and {len(counts) - MAX_FOLDS} other kinds of errors")
    return lines


def _group_part(group: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    firsts: dict[str, BaseException] = {}
    all_of_them = list(leaves(group.exceptions))
    for error in all_of_them:
        firsts.setdefault(summary_of(error), error)
    for line, error in zip(fold(all_of_them), firsts.values(), strict=False):
        yield f"  + {_paint(_RED, line)}"
        shown, _ = frames_of(error)
        for frame in shown[-1:]:
            yield from (f"    {text}" for text in _frame_lines(frame))
    if len(firsts) > MAX_FOLDS:
        yield f"  + {fold(all_of_them)[-1]}"
    yield ""


# -- What helps --------------------------------------------------------------------------------------------------------


def _hints(record: FailureRecord) -> list[str]:
    shown = wording.current()
    if not shown.commands or record.origin is None:
        return []
    short = shown.name_of(record.origin.action)
    run, lines = shown.standing(record.path[-1].action)
    later = f"; later: %flyte debug {short}; to run it here: %flyte replay {short}" if short else ""
    again = f"; after a fix: %flyte retry {run}" if run else ""
    return [*lines, f"%debug opens the frame that failed, with its remote variables{later}{again}"]


def _group_hints(group: BaseExceptionGroup[BaseException]) -> list[str]:
    first = next((record for record in map(record_of, leaves([group])) if record is not None), None)
    return _hints(first) if first is not None else []


def _paint(color: str, text: str) -> str:
    return f"{color}{text}{_OFF}" if wording.current().color else text


# -- In full -----------------------------------------------------------------------------------------------------------


def full_text(record: FailureRecord) -> str:
    """The whole remote traceback in Python's own form: every frame, the exceptions behind it, those of a group."""
    return "\n".join(_full(record)) + "\n"


def _full(record: FailureRecord) -> Iterator[str]:
    if record.cause is not None:
        yield from _full(record.cause)
        yield from ("", "The above exception was the direct cause of the following exception:", "")
    elif record.context is not None:
        yield from _full(record.context)
        yield from ("", "During handling of the above exception, another exception occurred:", "")
    if record.frames:
        yield "Traceback (most recent call last):"
    index = -1
    for frame in record.frames:
        if record.path and frame.hop != index and frame.hop < len(record.path):
            index = frame.hop
            yield f"  [in action {_hop_text(record.path[index])}]"
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        line = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
        if line:
            yield f"    {line}"
    if record.left_out:
        yield f"  [{record.left_out} frames left out of the middle]"
    yield record.type_name + (f": {record.message}" if record.message else "")
    yield from record.notes
    yield from _full_children(record.children, record.children_total)


def _full_children(children: Sequence[FailureRecord], total: int) -> Iterator[str]:
    for number, child in enumerate(children, 1):
        yield f"  +---------------- {number} ----------------"
        yield from (f"  | {line}" for line in _full(child))
    if total > len(children):
        yield f"  + and {total - len(children)} more exceptions, not kept"
