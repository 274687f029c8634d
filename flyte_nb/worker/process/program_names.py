"""Names of the program's modules, for ``pickle``, ``joblib`` and ``torch`` in tasks. Runs in: worker process.

``joblib.dump(model, path)`` in a task writes a class as its name, and looks it up in its module; ``joblib.load`` finds it
there. A program is not executed on a worker, and a module of its that a worker imports has classes of its own: not those that
came with the task. So in ``__main__``, and in modules from the user's files, what the running body has is found first.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from flyte_nb.core.attempts.family import executed
from flyte_nb.core.transport import lazy_imports
from flyte_nb.core.values.by_value.classes import CLASSES


class _Main(types.ModuleType):
    """``__main__``."""

    def __getattr__(self, name: str) -> Any:
        found = _find("__main__", name)
        if found is None:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return found


class _Users(types.ModuleType):
    """A module from a file of the user's."""

    def __getattribute__(self, name: str) -> Any:
        try:
            own = super().__getattribute__(name)
        except AttributeError:
            found = _find(self.__name__, name)
            if found is None:
                raise
            return found
        # What is looked up in loops, such as a number, costs no search.
        is_code = type(own) is types.FunctionType or issubclass(type(own), type)
        found = _find(self.__name__, name) if is_code else None
        return own if found is None else found


def _find(module: str, name: str) -> Any:
    """A class or function of a module, as the running body has it; None if it has none of the name."""
    body: Any = executed()
    if body is None or name.startswith("__"):
        return None
    func = inspect.unwrap(getattr(body.task.func, "func", body.task.func))
    space = getattr(func, "__globals__", {})
    if space.get("__name__") == module == "__main__" and name in space:
        return space[name]
    brought = (*_brought(), *(value for value in list(space.values()) if isinstance(value, types.FunctionType)))
    return next((each for each in brought if each.__module__ == module and each.__qualname__ == name), None)


def _brought() -> Iterator[Any]:
    classes = CLASSES.get()
    if classes is not None:
        yield from classes.program.values()
        yield from list(classes.named.values())
        yield from list(classes.met.values())


def _knows(module: str) -> bool:
    """Whether classes of a module came with the running body, or to it."""
    return executed() is not None and any(each.__module__ == module for each in _brought())


def install() -> Callable[[], None]:
    """Have them found; returns what takes it back."""
    main = sys.modules["__main__"]
    before = type(main)
    if issubclass(before, _Main):
        return lambda: None
    main.__class__ = _Main
    lazy_imports.look_for_programs(_Users, _knows)

    def undo() -> None:
        main.__class__ = before
        lazy_imports.look_for_programs(None, None)

    return undo
