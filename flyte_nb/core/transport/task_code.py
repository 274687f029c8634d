"""Serialize the code of a task by value, with the user's modules that it needs. Runs in: where tasks are submitted."""

from __future__ import annotations

import sys

import cloudpickle

from flyte_nb.core.transport.payload import UnpicklableError
from flyte_nb.core.values import pickler
from flyte_nb.core.values.user_code import is_user_code


def dump_function(task: object) -> bytes:
    """Serialize a task by value, with the user's modules beside the notebook.

    Raises:
        UnpicklableError: It (or a global it uses) cannot be pickled.
    """
    register_user_modules()
    try:
        return pickler.dumps(task, fresh=True)
    except Exception as exc:
        name = getattr(task, "name", task)
        raise UnpicklableError(
            f"task {name} cannot be sent to a worker: {type(exc).__name__}: {exc}. "
            "A global or closure variable that it uses cannot be pickled; create it inside the task instead."
        ) from exc


#: Names of modules that were looked at.
_checked: set[str] = set()


def register_user_modules() -> None:
    """Have the user's own modules (not installed ones) pickled by value: workers cannot import them, and they are edited."""
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
