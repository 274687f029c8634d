"""Locals of a remote frame, as a mapping that unpickles a value when it is looked at. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from types import FrameType
from typing import Any

from flyte_nb.core.failures import snapshot
from flyte_nb.core.failures.record import FrameRecord

_OPTIMIZED = 1  # CPython's CO_OPTIMIZED: set on every function, not on the frames that we make


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
