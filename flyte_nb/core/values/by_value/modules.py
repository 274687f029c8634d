"""Modules of the user's travel by value: workers cannot import them, and they are edited. Runs in: everywhere.

A module whose classes no pickler takes (SQLAlchemy keeps its models in registries) is imported from its file instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import cloudpickle

from flyte_nb.core.values.user_code import is_user_code

#: Names of modules that were looked at.
_checked: set[str] = set()
#: Names of those that are imported from their files.
BY_FILE: set[str] = set()
#: What `sys.modules` looked like then: its size, and the module that came last.
_seen: tuple[int, str] = (0, "")


def leave_to_files(names: Iterable[str]) -> None:
    """Have modules imported from their files."""
    for name in names:
        BY_FILE.add(name)
        _checked.add(name)
        if name in cloudpickle.list_registry_pickle_by_value() and name in sys.modules:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])


def take_by_value(names: Iterable[str]) -> None:
    """Have modules travel by value again."""
    for name in names:
        BY_FILE.discard(name)
        cloudpickle.register_pickle_by_value(sys.modules[name])


def register_user_modules() -> None:
    """Have the user's own modules (not installed ones) pickled by value. Next to nothing where no module came since."""
    global _seen
    seen = (len(sys.modules), next(reversed(sys.modules)))
    if seen == _seen:
        return
    _seen = seen
    for name, module in list(sys.modules.items()):
        if name in _checked:
            continue
        _checked.add(name)
        # ``__main__`` travels by value anyway.
        if getattr(module, "__name__", "__main__") != "__main__" and is_user_code(module):
            try:
                cloudpickle.register_pickle_by_value(module)
            except ValueError:  # removed from sys.modules meanwhile
                continue
