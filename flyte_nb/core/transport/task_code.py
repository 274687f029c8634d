"""Serialize the code of a task by value, with the user's modules that it needs. Runs in: where tasks are submitted."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

from flyte_nb.core.transport.bindings import globals_of
from flyte_nb.core.transport.payload import UnpicklableError, can_pickle, describe_culprit
from flyte_nb.core.values import pickler
from flyte_nb.core.values.user_code import is_task, is_user_code


def dump_function(task: object) -> bytes:
    """Serialize a task by value, with the user's modules beside the notebook.

    Raises:
        UnpicklableError: It (or a global it uses) cannot be pickled.
    """
    try:
        return pickler.dumps(task, fresh=True)
    except Exception as exc:
        raise why_not(task, exc) from exc


def why_not(task: Any, exc: BaseException) -> UnpicklableError:
    """The error of a task that cannot be pickled: it names the global or closure variable at fault, and a remedy.

    Args:
        task: The task.
        exc: What the pickler raised.
    """
    name = getattr(task, "name", task)
    culprit = _find_culprit(getattr(task, "func", task))
    if culprit is None:
        return UnpicklableError(f"task {name} cannot be sent to a worker: {type(exc).__name__}: {exc}.")
    kind, variable, value, user = culprit
    if variable == "get_ipython" or any(each.__name__ == "InteractiveShell" for each in type(value).__mro__):
        return UnpicklableError(
            f"task {name} cannot be sent to a worker: {user} uses get_ipython(), as every `!command` and `%magic` line does, "
            "and there is no IPython on a worker. For a command call subprocess.run(...), for a magic what it stands for; or "
            "use it in a cell, and pass what it gives as an argument."
        )
    return UnpicklableError(
        f"task {name} cannot be sent to a worker: the {kind} {variable!r}, which {user} uses, cannot be pickled: "
        f"{describe_culprit(value)} ({type(exc).__name__}: {exc}). Create it inside the task, or pass what it is made from (a "
        "path, a query, a configuration) as an argument."
    )


#: Functions, classes and modules that are searched for the variable at fault.
MAX_SEARCHED = 1_000


def _find_culprit(start: Any) -> tuple[str, str, Any, str] | None:
    """The variable that cannot be pickled: its kind, its name, its value, and who uses it; None if none is found."""
    queue = [start]
    seen = {id(start)}
    while queue and len(seen) < MAX_SEARCHED:
        user = queue.pop(0)
        for kind, name, value in _variables(user):
            if id(value) in seen or can_pickle(value, fresh=True):
                continue
            seen.add(id(value))
            inner = _unwrapped(value)
            if isinstance(inner, types.FunctionType | type | types.ModuleType):
                queue.append(inner)
            else:
                return kind, name, value, _called(user)
    return None


def _unwrapped(value: Any) -> Any:
    """The function inside a task, a method, or a decorator's object."""
    if is_task(value):
        return value.func
    if isinstance(value, types.MethodType) and isinstance(value.__self__, type):
        return value.__func__
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return value.fget if isinstance(value, property) else value


def _called(user: Any) -> str:
    if isinstance(user, types.FunctionType):
        return f"{user.__qualname__}()"
    return f"{'class' if isinstance(user, type) else 'module'} {getattr(user, '__qualname__', user.__name__)}"


def _variables(user: Any) -> Iterator[tuple[str, str, Any]]:
    """What a function, class or module refers to: kind of variable, name, value."""
    if isinstance(user, types.FunctionType):
        for name in globals_of(user):
            if name in user.__globals__:
                yield "global", name, user.__globals__[name]
        for name, cell in zip(user.__code__.co_freevars, user.__closure__ or (), strict=False):
            with contextlib.suppress(ValueError):  # not filled yet
                yield "closure variable", name, cell.cell_contents
        code = user.__code__
        names = code.co_varnames[: code.co_argcount]
        defaults = user.__defaults__ or ()
        named = {
            **dict(zip(names[len(names) - len(defaults) :], defaults, strict=False)),
            **(user.__kwdefaults__ or {}),
        }
        yield from (("default of the parameter", name, value) for name, value in named.items())
        yield from (("attribute", name, value) for name, value in vars(user).items())
    elif isinstance(user, type):
        for cls in user.__mro__[:-1]:
            if is_user_code(cls):
                yield from (("class attribute", name, value) for name, value in vars(cls).items() if name[:2] != "__")
                yield from (
                    ("attribute", name, v) for name, v in vars(cls).items() if isinstance(v, types.FunctionType)
                )
    elif isinstance(user, types.ModuleType):
        yield from (("variable", name, value) for name, value in vars(user).items() if name[:2] != "__")
