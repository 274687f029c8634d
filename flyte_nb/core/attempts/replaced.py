"""Replaced attributes of Python's modules and classes, put back when nobody needs them any more. Runs in: worker process."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Replaced:
    """What was replaced, and what had been there."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any, Any]] = []

    def put(self, owner: Any, name: str, ours: Any) -> None:
        """Replace an attribute of a module, a class or an instance."""
        self._before.append((owner, name, vars(owner).get(name, _ABSENT), ours))
        setattr(owner, name, ours)

    def restore(self) -> None:
        """Put all back that is still ours: what others have wrapped since stays."""
        while self._before:
            owner, name, before, ours = self._before.pop()
            if vars(owner).get(name, _ABSENT) is not ours:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

    def __bool__(self) -> bool:
        return bool(self._before)

    def __repr__(self) -> str:
        return f"<Replaced [{len(self._before)} attributes]>"
