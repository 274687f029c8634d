"""Patched libraries: what a program has put into installed modules goes along with the code that uses it. Runs in: everywhere.

``mock.patch("requests.get", ...)`` around a call, ``np.mean = mine``, ``@register_dataframe_accessor("geo")`` and
``tqdm.pandas()`` hold in this process. A worker imports the installed module anew. Looked at are attributes that the code of a
task names, of the modules that it names (and of pandas' classes); what is the program's own there is set for the turns of its
attempts.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flyte_nb.core.values.code_hash import names_of
from flyte_nb.core.values.user_code import OURS, content_of, is_user_code

#: Classes that programs and other packages extend, by module.
_EXTENDED = (
    ("pandas", "DataFrame"), ("pandas", "Series"), ("pandas", "Index"), ("pandas.core.groupby", "DataFrameGroupBy"),
    ("pandas.core.groupby", "SeriesGroupBy"),
)  # fmt: skip
#: How deep modules are followed: ``scipy.stats.norm``.
_DEEP = 3


class Patch(NamedTuple):
    """One attribute."""

    owner: Any
    name: str
    value: Any


def owners(functions: Iterable[types.FunctionType]) -> Iterator[tuple[Any, list[str]]]:
    """Installed modules and classes that code names, and classes of pandas, with the names of theirs that it uses.

    Args:
        functions: All that travel.
    """
    found: dict[int, tuple[Any, dict[str, None]]] = {}
    for function in functions:
        names = names_of(function.__code__)
        space = function.__globals__
        level = [space.get(name, sys.modules.get(name)) for name in names]
        level += [content_of(cell) for cell in function.__closure__ or ()]
        level += [vars(sys.modules[module]).get(cls) for module, cls in _EXTENDED if module in sys.modules]
        for _ in range(_DEEP):
            inner = []
            for owner in filter(_is_installed, level):
                if used := [name for name in names if name in vars(owner)]:
                    found.setdefault(id(owner), (owner, {}))[1].update(dict.fromkeys(used))
                    inner += [vars(owner)[name] for name in used]
            level = inner
    return ((owner, list(used)) for owner, used in found.values())


def _is_installed(owner: Any) -> bool:
    """Whether it is a module or class of Python code that is neither the program's nor ours."""
    if not isinstance(owner, types.ModuleType | type):
        return False
    name: Any = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    if not isinstance(name, str) or name.partition(".")[0] in (*OURS, "builtins"):
        return False
    return not is_user_code(owner)


def patches(looked_at: Iterable[tuple[Any, list[str]]]) -> tuple[Patch, ...]:
    """What of these attributes the program, or another package, has put there."""
    return tuple(
        Patch(owner, name, vars(owner)[name])
        for owner, names in looked_at
        for name in names
        if _is_foreign(owner, vars(owner).get(name))
    )


def _is_foreign(owner: Any, value: Any) -> bool:
    if isinstance(value, types.ModuleType) or value is None:
        return False
    code = value if isinstance(value, types.FunctionType | type) else type(value)
    if code.__module__ == "unittest.mock" or is_user_code(code):
        return True
    if not isinstance(owner, type) or owner.__module__.partition(".")[0] != "pandas":
        return False
    inner = getattr(value, "_accessor", value)  # of pandas' accessors
    module = getattr(inner, "__module__", None)
    return isinstance(inner, types.FunctionType | type) and str(module).partition(".")[0] not in ("pandas", "builtins")


_ABSENT = object()
#: How often each attribute is set just now, and what it was; by owner and name.
_held: dict[tuple[int, str], list[Any]] = {}
_lock = threading.Lock()
_of_thread = threading.local()


class _Setting:
    """Patches that a thread has set, or has lifted while it waits."""

    def __init__(self, found: tuple[Patch, ...]) -> None:
        #: Each with the value that it has next: a body may patch the same attribute.
        self._next = list(found)
        self._set: list[Patch] = []

    def put(self) -> None:
        with _lock:
            while self._next:
                patch = self._next[-1]
                held = _held.setdefault((id(patch.owner), patch.name), [0, vars(patch.owner).get(patch.name, _ABSENT)])
                setattr(patch.owner, patch.name, patch.value)
                held[0] += 1
                self._set.append(self._next.pop())

    def lift(self) -> None:
        with _lock:
            while self._set:
                patch = self._set[-1]
                owner, name, _ = patch
                held = _held[id(owner), name]
                now = vars(owner).get(name, patch.value) if held[0] == 1 else patch.value  # else it may be another's
                self._next.append(patch._replace(value=now))
                held[0] -= 1
                if not held[0]:
                    del _held[id(owner), name]
                    delattr(owner, name) if held[1] is _ABSENT else setattr(owner, name, held[1])
                self._set.pop()


def lift() -> None:
    """Take off what this thread has set: it gives its slot to others, whose modules are as they were."""
    for setting in reversed(getattr(_of_thread, "settings", ())):
        setting.lift()


def put_back() -> None:
    """Set again what this thread has lifted: it has its slot."""
    for setting in getattr(_of_thread, "settings", ()):
        setting.put()


class InPlace:
    """Sets patches while an attempt is at its turn."""

    def __init__(self, found: tuple[Patch, ...]) -> None:
        self.found = found

    def during(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function while they are set."""
        setting = _Setting(self.found)
        settings: list[_Setting] = _of_thread.__dict__.setdefault("settings", [])
        settings.append(setting)
        try:
            setting.put()
            return act(*args, **kwargs)
        finally:
            settings.remove(setting)
            setting.lift()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is called while they are set."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
                items, end = function(*args, **kwargs), object()
                try:
                    while (item := self.during(next, items, end)) is not end:
                        yield item
                finally:
                    self.during(items.close)

            return generate

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.during(function, *args, **kwargs)

        return call

    def __repr__(self) -> str:
        return f"<InPlace {[f'{patch.owner.__name__}.{patch.name}' for patch in self.found]}>"
