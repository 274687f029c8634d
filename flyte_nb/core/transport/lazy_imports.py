"""Lazy imports: the user's modules that code imports while it runs, as the calling process has or would find them.

Runs in: where tasks are called; worker process.

A module that a task's globals name travels with them. One that a body imports (``def task(): import helper``) is looked for
here, in the code of all functions that travel: what is loaded in this process goes by value, as it is now, edited and reloaded
or not. What is not loaded is imported by the worker from its file, if that is within reach there; a file that was edited since
is imported anew. What cannot be pickled goes by its file, too.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flyte_nb.core.values.by_value import classes, modules
from flyte_nb.core.values.user_code import OURS, is_user_code, is_user_file, library_folders

#: Files that are watched for one task: beyond, a program is a library.
MAX_FILES = 200

#: Packages that every worker has; ours has a second name (`flyte_nb.import_alias`).
_NOT_THEIRS = sys.stdlib_module_names | OURS | {"flyte"}
#: A file's time of change and size; None if it is not there.
_Stamp = tuple[int, int] | None


@functools.lru_cache(maxsize=4096)
def _imports_in(code: types.CodeType, package: str) -> frozenset[str]:
    """Full names of what code imports: modules, and what may be one (``from package import name``)."""
    found: set[str] = set()
    last: list[Any] = [None, None]
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            found |= _names_of(step.argval, last[1] or (), last[0] or 0, package)
        elif step.opname.startswith("LOAD_"):
            last = [last[1], step.argval]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _imports_in(constant, package)
    return frozenset(found)


def _names_of(name: str, wanted: Iterable[str], level: Any, package: str) -> set[str]:
    if isinstance(level, int) and level:
        try:
            name = importlib.util.resolve_name("." * level + name, package)
        except ImportError:
            return set()
    parts = name.split(".")
    found = {".".join(parts[: i + 1]) for i in range(len(parts))}
    if not isinstance(wanted, str):
        found |= {f"{name}.{each}" for each in wanted if each != "*"}
    return {each for each in found if each.partition(".")[0] not in _NOT_THEIRS}


@functools.lru_cache(maxsize=1024)
def _imports_of_file(path: str, _stamp: _Stamp, package: str) -> frozenset[str]:
    found: set[str] = set()
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _names_of(alias.name, (), 0, package)
        elif isinstance(node, ast.ImportFrom):
            found |= _names_of(node.module or "", [alias.name for alias in node.names], node.level, package)
    return frozenset(found)


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - once per call
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module that is not loaded would come from; nothing is executed."""
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(name)
        loaded = sys.modules.get(parent)
        above: Any = loaded if loaded is not None else _find(parent)
        where = getattr(above, "__path__", None) or getattr(above, "submodule_search_locations", None)
        return importlib.machinery.PathFinder.find_spec(name, list(where)) if where else None
    except Exception:  # a finder of somebody's, a module without a spec
        return None


class LazyImports:
    """What the code of one task imports while it runs, as of one moment.

    Args:
        functions: All functions that travel with it.
        by_file: Names of loaded modules that cannot be pickled, and are to be imported from their files.
    """

    __slots__ = ("_finders", "_folder", "_missing", "_own", "_stamps", "loaded", "path", "watched")

    def __init__(self, functions: Iterable[types.FunctionType], by_file: frozenset[str] = frozenset()) -> None:
        #: The user's modules that are loaded here, by name.
        self.loaded: dict[str, types.ModuleType] = {}
        #: Names of modules that are, or may come to be, in ``sys.modules``.
        self.watched: list[str] = []
        #: Files of those that are not loaded, by name, and how they are.
        self._stamps: dict[str, tuple[str, _Stamp]] = {}
        #: Names of what is not found: it may be created, or ``sys.path`` extended.
        self._missing: list[str] = []
        #: ``sys.path``, and the working directory where that counts.
        self.path: list[str] = sys_path()
        self._own, self._finders = list(sys.path), _FINDER.path
        self._folder = os.getcwd()  # noqa: PTH109
        by_file |= modules.BY_FILE
        queue = sorted({name for function in functions for name in _imports_of(function)} | by_file)
        seen = set(queue)
        while queue and len(self._stamps) < MAX_FILES:
            found = self._look_at(queue.pop(), by_file) - seen
            seen |= found
            queue += sorted(found)

    def _look_at(self, name: str, by_file: frozenset[str]) -> frozenset[str]:
        module = sys.modules.get(name)
        if module is not None and name not in by_file:
            if getattr(module, "__name__", None) == name and name != "__main__" and is_user_code(module):
                self.loaded[name] = module
                self.watched.append(name)
            return frozenset()
        spec: Any = _find(name) if module is None else getattr(module, "__spec__", None)
        if spec is None:
            if "." not in name:
                self._missing.append(name)
            return frozenset()
        if not spec.origin or not spec.has_location or not is_user_file(spec.origin, name):
            return frozenset()
        self.watched.append(name)
        stamp = _stamp(spec.origin)
        self._stamps[name] = (spec.origin, stamp)
        return _imports_of_file(spec.origin, stamp, spec.parent or "") if spec.origin.endswith(".py") else frozenset()

    def same(self) -> bool:
        """Whether files and search path are as they were; ``sys.modules`` is looked at by `bindings`."""
        if self._own != sys.path or self._finders is not _FINDER.path:
            return False
        return not (self._stamps or self._missing) or (
            self._folder == os.getcwd()  # noqa: PTH109
            and all(_stamp(path) == stamp for path, stamp in self._stamps.values())
            and all(name not in sys.modules and _find(name) is None for name in self._missing)
        )

    def __bool__(self) -> bool:
        return bool(self.loaded or self._stamps or self._missing)

    def packed(self) -> Imports:
        """What travels."""
        path = tuple(entry or self._folder for entry in self.path)
        return Imports(self.loaded, path, self._stamps, tuple(self._missing))


def _imports_of(function: types.FunctionType) -> frozenset[str]:
    return _imports_in(function.__code__, function.__globals__.get("__package__") or "")


def sys_path() -> list[str]:
    """Where this process finds modules."""
    return [*_FINDER.path, *(entry for entry in sys.path if entry not in _FINDER.path)]


class Imports(NamedTuple):
    """The modules that a task's code imports while it runs, on their way to a worker."""

    modules: dict[str, types.ModuleType]
    path: tuple[str, ...]
    files: dict[str, tuple[str, _Stamp]]
    missing: tuple[str, ...]

    def install(self, *, first: bool = False) -> None:
        """Have imports of this process find these modules from now on. `first`: they have just come."""
        if first or self.files or self.missing or self.path != _FINDER.path:
            _FINDER.install(self)
        if first:
            importlib.invalidate_caches()
        for name, module in self.modules.items():
            _FINDER.imported.pop(name, None)
            _FINDER.brought[name] = sys.modules[name] = module
            parent, _, last = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], last, module)


class _Finder:
    """Finds the user's modules on a worker where the process that called would find them."""

    def __init__(self) -> None:
        self.path: tuple[str, ...] = ()
        #: What was imported from the user's files, and how they were: by name.
        self.imported: dict[str, tuple[str, _Stamp]] = {}
        #: What modules from the user's files are here, and whether a module that is not found has classes that came by value.
        self.kind: type[types.ModuleType] | None = None
        self.knows: Callable[[str], bool] | None = None
        #: What came from callers, by name.
        self.brought: dict[str, types.ModuleType] = {}

    def install(self, imports: Imports) -> None:
        """Look where the caller does from now on; forget modules that are not what it would import now."""
        self.path = imports.path
        if self not in sys.meta_path:
            library_folders()  # which imports a module where `sysconfig` is new, and would ask us (Python 3.13.0)
            sys.meta_path.insert(0, self)
        if (
            any(_stamp(origin) != stamp for origin, stamp in self.imported.values())
            or any(name in self.imported for name in imports.missing)
            or any(self._differs(name, *file) for name, file in imports.files.items())
        ):
            for name in self.imported.keys() | imports.files.keys():  # all: they refer to each other
                gone = sys.modules.pop(name, None)
                parent, _, last = name.rpartition(".")
                if gone is not None and getattr(sys.modules.get(parent), last, None) is gone:
                    delattr(sys.modules[parent], last)
            self.imported.clear()

    def _differs(self, name: str, origin: str, stamp: _Stamp) -> bool:
        if name not in sys.modules:
            return False
        found = self.imported.get(name)
        # One that came with an earlier version, or was imported before anybody looked, is not known.
        return found is None or found[0] != origin or (found[1] != stamp and _stamp(origin) == stamp)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """As of any finder on ``sys.meta_path``."""
        if name.partition(".")[0] in _NOT_THEIRS:
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(name, list(self.path) if path is None else path, target)
        if spec is None and self.knows is not None and self.knows(name):
            return importlib.machinery.ModuleSpec(name, _Nowhere())
        # A folder without ``__init__.py`` has no file of its own.
        origin = spec and (
            spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)
        )
        if not origin or not is_user_file(origin, name):
            return None
        self.imported[name] = (origin, _stamp(origin))
        if self.kind is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _FromFile(spec.loader.name, spec.loader.path)
        return spec


_FINDER = _Finder()
classes.from_files = _FINDER.imported


class _FromFile(importlib.machinery.SourceFileLoader):
    """Loads a module of the user's."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """As a loader's."""
        return _FINDER.kind(spec.name) if _FINDER.kind is not None else None


class _Nowhere(importlib.abc.Loader):
    """Loads a module that this process cannot import: it has only what came by value."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """As a loader's."""
        return _FINDER.kind(spec.name) if _FINDER.kind is not None else None

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to execute."""


def is_brought(name: str) -> bool:
    """Whether a module came from a caller."""
    return name in _FINDER.brought


def look_in(path: tuple[str, ...], by_file: frozenset[str]) -> None:
    """Find the user's modules there from now on; called by pickle, before code that names classes in them."""
    modules.leave_to_files(by_file)
    if path != _FINDER.path or _FINDER not in sys.meta_path:
        _FINDER.install(Imports({}, path, {}, ()))
        importlib.invalidate_caches()


def look_for_programs(kind: type[types.ModuleType] | None, knows: Callable[[str], bool] | None) -> None:
    """Have this process find the user's modules from now on, all of them, as modules of a class; None: no more."""
    _FINDER.kind, _FINDER.knows = kind, knows
    if kind is not None and _FINDER not in sys.meta_path:
        library_folders()
        _FINDER.path = tuple(sys.path)
        sys.meta_path.insert(0, _FINDER)


def withdraw() -> None:
    """Have this process import what it would without us: its callers are gone, and with them their modules."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in [
        *_FINDER.imported,
        *(name for name, found in _FINDER.brought.items() if sys.modules.get(name) is found),
    ]:
        sys.modules.pop(name, None)
    _FINDER.path = ()
    _FINDER.imported.clear()
    _FINDER.brought.clear()
