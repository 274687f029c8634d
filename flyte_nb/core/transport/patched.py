"""Patched libraries: what a program has put into installed modules goes along with the code that uses it. Runs in: everywhere.

``mock.patch("requests.get", ...)`` around a call, ``np.mean = mine``, ``@register_dataframe_accessor("geo")`` and
``tqdm.pandas()`` hold in this process. A worker imports the installed module anew. Looked at are attributes that the code of a
task names, of the modules that it names (and of pandas' classes); what is the program's own there is set for the turns of its
attempts.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flyte_nb.core.values.user_code import OURS, is_user_code

#: Classes that programs and other packages extend, by module.
_EXTENDED = {
    "pandas": ("DataFrame", "Series", "Index"),
    "pandas.core.groupby": ("DataFrameGroupBy", "SeriesGroupBy"),
}
#: How deep modules are followed: ``scipy.stats.norm``.
_DEEP = 3


class Patch(NamedTuple):
    """One attribute."""

    owner: Any
    name: str
    value: Any


def owners(
    functions: Iterable[types.FunctionType], names_of: Callable[[Any], frozenset[str]]
) -> Iterator[tuple[Any, list[str]]]:
    """Installed modules, and classes of pandas, with the names of theirs that code uses.

    Args:
        functions: All that travel.
        names_of: Names in a code object.
    """
    found: dict[int, tuple[Any, dict[str, None]]] = {}
    for function in functions:
        names = names_of(function.__code__)
        space = function.__globals__
        modules = [
            each for name in names if isinstance(each := space.get(name, sys.modules.get(name)), types.ModuleType)
        ]
        cells = [_content(cell) for cell in function.__closure__ or ()]
        modules += [each for each in cells if isinstance(each, types.ModuleType)]
        for _ in range(_DEEP):
            inner: list[types.ModuleType] = []
            for module in modules:
                if module.__name__.partition(".")[0] in OURS or is_user_code(module) or module.__name__ == "builtins":
                    continue
                used = [name for name in names if name in vars(module)]
                found.setdefault(id(module), (module, {}))[1].update(dict.fromkeys(used))
                inner += [each for name in used if isinstance(each := vars(module)[name], types.ModuleType)]
            modules = [each for each in inner if id(each) not in found]
        for module_name, classes in _EXTENDED.items():
            for cls in (
                (vars(sys.modules[module_name]).get(each) for each in classes) if module_name in sys.modules else ()
            ):
                if used := [name for name in names if name in vars(cls)]:
                    found.setdefault(id(cls), (cls, {}))[1].update(dict.fromkeys(used))
    return ((owner, list(used)) for owner, used in found.values() if used)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


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
    if not isinstance(owner, type):
        return False
    inner = getattr(value, "_accessor", value)  # of pandas' accessors
    module = getattr(inner, "__module__", None)
    return isinstance(inner, types.FunctionType | type) and str(module).partition(".")[0] not in ("pandas", "builtins")


_ABSENT = object()
#: How often each attribute is set just now, and what it was; by owner and name.
_held: dict[tuple[int, str], list[Any]] = {}
_lock = threading.Lock()


class InPlace:
    """Sets patches while an attempt is at its turn."""

    def __init__(self, found: tuple[Patch, ...]) -> None:
        self.found = found

    def during(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function while they are set."""
        with _lock:
            for owner, name, value in self.found:
                held = _held.setdefault((id(owner), name), [0, vars(owner).get(name, _ABSENT)])
                held[0] += 1
                setattr(owner, name, value)
        try:
            return act(*args, **kwargs)
        finally:
            with _lock:
                for owner, name, _ in self.found:
                    held = _held[id(owner), name]
                    held[0] -= 1
                    if not held[0]:
                        del _held[id(owner), name]
                        delattr(owner, name) if held[1] is _ABSENT else setattr(owner, name, held[1])

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is called while they are set."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.during(function, *args, **kwargs)

        return call

    def __repr__(self) -> str:
        return f"<InPlace {[f'{patch.owner.__name__}.{patch.name}' for patch in self.found]}>"
