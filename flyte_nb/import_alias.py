"""Have code that says ``import flyte``, ``from flyte.io import File`` find this package. Runs in: everywhere.

``sys.modules["flyte"]`` becomes this very package, so that ``flyte is flyte_nb``: a function whose globals hold the module is
pickled by the name ``flyte_nb`` and needs no alias where it arrives. Submodules are found by `_Finder`, one module under two
names, so that no class exists twice. Workers have the finder always: it serves where the real SDK is not installed, and after
`install_as_flyte` in the notebook wherever.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

#: Public submodules, as ``flyte.<name>``.
SUBMODULES = (
    "app", "artifacts", "config", "durable", "errors", "extras", "git", "io", "models", "notify", "prefetch", "remote",
    "report", "storage", "syncify", "types",
)  # fmt: skip

#: Private modules of the SDK that programs have been seen to import, and the modules here that have their names.
_PRIVATE = {
    "_cache": "core.settings.cache",
    "_checkpoint": "io.checkpoint",
    "_condition": "core.steps.conditions",
    "_context": "core.tasks.context",
    "_environment": "core.tasks.environment",
    "_image": "core.settings.image",
    "_logging": "core.attempts.logging",
    "_map": "core.tasks.map",
    "_pod": "core.settings.image",
    "_resources": "core.settings.resources",
    "_retry": "core.settings.retry",
    "_reusable_environment": "core.settings.reuse",
    "_run": "core.runs.start",
    "_secret": "core.settings.secret",
    "_task": "core.tasks.task",
    "_task_environment": "core.tasks.task_environment",
    "_trigger": "core.settings.triggers",
    "io._dataframe": "io.dataframe",
    "io._dir": "io.dir",
    "io._file": "io.file",
    "io._hashing_io": "io.hashing",
}

#: What `sys.modules` calls the alias.
ALIAS = "flyte"


class AlreadyImportedError(RuntimeError):
    """The real Flyte SDK is imported in this process, so that its name is taken."""


def _target(name: str) -> str | None:
    """The module here that ``flyte.<...>`` means; None if there is none."""
    if name == ALIAS:
        return "flyte_nb"
    inner = name.removeprefix(ALIAS + ".")
    first = inner.partition(".")[0]
    if inner in _PRIVATE:
        return f"flyte_nb.{_PRIVATE[inner]}"
    if first in SUBMODULES:
        return f"flyte_nb.{inner}"
    return None


class _Loader:
    """Puts a module of ours under a second name. Not of `importlib.abc`, which takes 8 ms to import."""

    def __init__(self, target: str) -> None:
        self.target = target

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what it then finds in `sys.modules`.
        sys.modules[module.__name__] = importlib.import_module(self.target)


class _Finder:
    """Finds ``flyte`` and ``flyte.*`` in this package."""

    def __init__(self) -> None:
        #: Whether it serves even where the real one is installed.
        self.first = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == ALIAS:
            if not self.first and importlib.machinery.PathFinder.find_spec(ALIAS) is not None:
                return None  # The real one is installed.
        elif not fullname.startswith(ALIAS + ".") or sys.modules.get(ALIAS) is not sys.modules["flyte_nb"]:
            return None  # Something else; or part of the real one.
        found = _target(fullname)
        if found is None:
            # Not left to the other finders: they would find ``flyte.core`` in this package and load it a second time.
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: it is not part of what flyte_nb gives of Flyte "
                f"({', '.join(SUBMODULES)}; see docs/flyte-names.md).",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, _Loader(found), is_package=True)  # type: ignore[arg-type]


_finder = _Finder()


def install_as_flyte() -> None:
    """Make ``import flyte`` and its forms mean this package, here and on the workers of runs that start from now on.

    Call it once, before the first ``import flyte``. Harmless when repeated.

    Raises:
        AlreadyImportedError: The real ``flyte`` is imported in this process already.

    Example:
        >>> import flyte_nb
        >>> flyte_nb.install_as_flyte()
        >>> from flyte.io import File
    """
    present = sys.modules.get(ALIAS)
    ours = sys.modules["flyte_nb"]
    if present is not None and present is not ours:
        raise AlreadyImportedError(
            f"The real flyte is imported in this process ({getattr(present, '__file__', None) or present!r}), so "
            "install_as_flyte() cannot take its name. Restart the kernel and call it before anything imports flyte."
        )
    _finder.first = True
    install_as_fallback()
    sys.modules[ALIAS] = ours


def install_as_fallback() -> None:
    """Serve ``import flyte`` where the real one is not installed. For worker processes."""
    if _finder not in sys.meta_path:
        # First: the usual finder would find ``flyte.io`` in this package's folder, and load it a second time.
        sys.meta_path.insert(0, _finder)


def is_installed() -> bool:
    """Whether `install_as_flyte` has been called in this process."""
    return _finder.first


def uninstall() -> None:
    """Take the alias away again: for tests."""
    _finder.first = False
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    ours: Any = sys.modules["flyte_nb"]
    if sys.modules.get(ALIAS) is ours:
        for name in [n for n in sys.modules if n == ALIAS or n.startswith(ALIAS + ".")]:
            del sys.modules[name]
