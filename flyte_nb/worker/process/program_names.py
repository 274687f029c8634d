"""Names of the program in ``__main__``, for ``pickle``, ``joblib`` and ``torch`` in tasks. Runs in: worker process.

``joblib.dump(model, path)`` in a task writes a class of the notebook as its name, and looks it up in ``__main__``;
``joblib.load`` finds it there. The program is not executed on a worker: what the running body's own version of it has is found.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

from flyte_nb.core.attempts.family import running
from flyte_nb.core.values.by_value.classes import CLASSES


class _Main(types.ModuleType):
    """``__main__``, with what the program of the running body has in it."""

    def __getattr__(self, name: str) -> Any:
        found = _find(name)
        if found is None:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return found


def _find(name: str) -> Any:
    body: Any = running()
    if body is None or name.startswith("__"):
        return None
    func = inspect.unwrap(getattr(body.task.func, "func", body.task.func))
    space = getattr(func, "__globals__", {})
    if space.get("__name__") == "__main__" and name in space:
        return space[name]
    classes = CLASSES.get()
    if classes is None:
        return None
    if name in classes.program:
        return classes.program[name]
    brought = [*classes.named.values(), *list(classes.met.values())]
    return next((each for each in brought if each.__module__ == "__main__" and each.__qualname__ == name), None)


def install() -> Callable[[], None]:
    """Have them found; returns what takes it back."""
    main = sys.modules["__main__"]
    before = type(main)
    if issubclass(before, _Main):
        return lambda: None
    main.__class__ = _Main
    return lambda: setattr(main, "__class__", before)
