"""Modules of the user's travel by value: workers cannot import them, and they are edited. Runs in: everywhere."""

from __future__ import annotations

import sys

import cloudpickle

from flyte_nb.core.values.user_code import is_user_code

#: Names of modules that were looked at.
_checked: set[str] = set()
#: What `sys.modules` looked like then: its size, and the module that came last.
_seen: tuple[int, str] = (0, "")


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
