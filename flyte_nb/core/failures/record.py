"""Record of a failure: exception, frames, locals, source. Plain picklable values. Runs in: everywhere."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from flyte_nb.core.values import redact, source_lines
from flyte_nb.core.values.bounded import TooLongError, call_within
from flyte_nb.core.values.describe import REPR_SECONDS

#: Largest record, pickled, in bytes. A record above it loses locals first, then source, then frames.
MAX_RECORD = 1_000_000


class Hop(NamedTuple):
    """One action that an exception passed through, on one worker."""

    #: The action's name within its run.
    action: str
    #: Full name of its task.
    task: str
    #: "square(17)": the call as the user knows it, without secrets.
    label: str
    #: Counts from 0.
    attempt: int
    #: Address of the worker; "" for this process.
    worker: str = ""


class FrameRecord(NamedTuple):
    """One frame of a traceback."""

    filename: str
    #: Line that was executing.
    lineno: int
    #: Name of the function.
    name: str
    #: ``__name__`` of its globals.
    module: str
    #: "user", "library" or "machinery"; see `flyte_nb.core.values.source_lines`.
    kind: str
    #: Line where the function starts.
    firstlineno: int
    #: Last line, first and last column of the expression that raised; None if unknown.
    position: tuple[int, int, int] | None
    #: The line's text, stripped; "" if its source is unknown.
    line: str
    #: Name -> what `flyte_nb.core.failures.snapshot.keep` kept; None where locals are not kept.
    locals: dict[str, object] | None = None
    #: The same for the globals that the function uses.
    globals: dict[str, object] | None = None
    #: Index into the record's path: the action that the frame ran in.
    hop: int = 0

    @property
    def is_user(self) -> bool:
        """Whether it is a frame of the user's own code."""
        return self.kind == source_lines.USER

    @property
    def where(self) -> str:
        """As one reads it: "file.py:12 in work"."""
        return f"{Path(self.filename).name}:{self.lineno} in {self.name}"


class FailureRecord(NamedTuple):
    """A failure, as far as it can travel. Made by `flyte_nb.core.failures.capture.capture`."""

    #: Name of the exception's class, qualified: "KeyError", "helper.RateError".
    type_name: str
    #: ``str(exception)``, without secrets.
    message: str
    #: Name of the exception class, or Flyte's own code.
    code: str
    #: "user", "system" or "unknown".
    kind: str
    #: The exception, pickled by `flyte_nb.core.failures.snapshot.dump` (for a group: class, message, attributes); None if that
    #: is impossible.
    exception: bytes | None
    #: Classes of the user's that it takes, pickled, by key.
    classes: dict[str, bytes]
    #: Name of the nearest built-in base, for when the class is unknown where the record is read.
    builtin: str
    #: Notes that the user's code added.
    notes: tuple[str, ...]
    #: The actions it passed through, from the one that raised it outwards.
    path: tuple[Hop, ...]
    #: Outermost first.
    frames: tuple[FrameRecord, ...]
    sources: tuple[source_lines.Source, ...]
    #: Frames left out of the middle, of a recursion for example.
    left_out: int = 0
    cause: FailureRecord | None = None
    #: What was being handled when it was raised.
    context: FailureRecord | None = None
    #: Exceptions of a group.
    children: tuple[FailureRecord, ...] = ()
    #: How many exceptions the group had, kept or not.
    children_total: int = 0

    @property
    def origin(self) -> Hop | None:
        """The action that raised it; None for an exception inside another one's record."""
        return self.path[0] if self.path else None

    @property
    def where(self) -> str:
        """The innermost frame of the user's code, "file.py:12 in work"; "" if there are no frames."""
        for frame in reversed(self.frames):
            if frame.is_user:
                return frame.where
        return self.frames[-1].where if self.frames else ""

    @property
    def summary(self) -> str:
        """One line for lists: "KeyError: 'a'"."""
        return _one_line(self.type_name.rpartition(".")[2], self.message)

    @property
    def hidden(self) -> int:
        """Frames that are not the user's."""
        return sum(1 for frame in self.frames if not frame.is_user) + self.left_out

    def __repr__(self) -> str:
        at = f" at {self.where}" if self.where else ""
        by = f" in {self.path[0].label or self.path[0].task}" if self.path else ""
        return f"<FailureRecord {self.type_name}: {self.message[:60]!r}{at}{by}, {len(self.frames)} frames>"

    def dumps(self) -> bytes:
        """Pickle it, within `MAX_RECORD` bytes: what does not fit is left out, the text stays."""
        record = self
        data = pickle.dumps(record, 5)
        for trim in (
            lambda it: _everywhere(it, _without_locals),
            lambda it: _everywhere(it, lambda each: each._replace(sources=())),
            lambda it: it._replace(cause=None, context=None, children=it.children[:20]),
            _bare,
        ):
            if len(data) <= MAX_RECORD:
                break
            record = trim(record)
            data = pickle.dumps(record, 5)
        return data

    @staticmethod
    def loads(data: bytes) -> FailureRecord:
        """Unpickle what `dumps` gave. Nothing of the user's is unpickled by this: exception and locals stay as bytes.

        Raises:
            TypeError: It is something else.
        """
        record = pickle.loads(data)
        if not isinstance(record, FailureRecord):
            raise TypeError(f"expected a pickled FailureRecord, got {type(record).__name__}")
        # A thousand failures of one cell carry its text a thousand times: one copy is enough.
        return record._replace(sources=tuple(map(_one_copy, record.sources))) if record.sources else record


@lru_cache(maxsize=512)
def _one_copy(source: source_lines.Source) -> source_lines.Source:
    return source


def summary_of(exception: BaseException) -> str:
    """One line without secrets, for lists of failures: "KeyError: 'a'"."""
    record = record_of(exception)
    if record is not None:
        return record.summary
    return _one_line(type(exception).__name__, redact.scrub(safe_str(exception)))


def _one_line(name: str, message: str) -> str:
    first = message.strip().partition("\n")[0][:200]
    return f"{name}: {first}" if first else name


def safe_str(exception: BaseException) -> str:
    """``str(exception)``, also where that raises or does not end."""
    name = type(exception).__name__
    try:
        if type(exception).__str__ in _PLAIN and all(type(arg) in (str, int, float) for arg in exception.args):
            return str(exception)
        return call_within(REPR_SECONDS, str, exception)
    except asyncio.CancelledError:
        raise
    except TooLongError:
        return f"<str() of this {name} did not end within {REPR_SECONDS:g} s>"
    except BaseException as exc:  # SystemExit, too
        return f"<str() of this {name} raised {type(exc).__name__}>"


#: ``__str__`` of classes that run no code of the user's if their arguments don't.
_PLAIN = frozenset(cls.__str__ for cls in (BaseException, OSError, KeyError, ImportError, SyntaxError, UnicodeError))


def record_of(exception: BaseException | None) -> FailureRecord | None:
    """The record that an error from another action carries; None for every other exception."""
    record = exception.__dict__.get("_flyte_failure") if exception is not None else None
    return record if isinstance(record, FailureRecord) else None


def _everywhere(record: FailureRecord, change: Callable[[FailureRecord], FailureRecord]) -> FailureRecord:
    """The record changed, and so those of its cause, its context and its children."""
    return change(record)._replace(
        cause=_everywhere(record.cause, change) if record.cause else None,
        context=_everywhere(record.context, change) if record.context else None,
        children=tuple(_everywhere(child, change) for child in record.children),
    )


def _without_locals(record: FailureRecord) -> FailureRecord:
    return record._replace(frames=tuple(frame._replace(locals=None, globals=None) for frame in record.frames))


def _bare(record: FailureRecord) -> FailureRecord:
    return record._replace(
        exception=None, classes={}, notes=(), path=record.path[:20], frames=record.frames[-10:], children=(), sources=()
    )
