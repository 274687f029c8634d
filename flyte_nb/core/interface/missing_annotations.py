"""Missing annotations of a function: one warning per task. Runs in: where tasks are defined."""

from __future__ import annotations

import dis
import inspect
import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("flyte")

#: Tasks whose missing annotations have been mentioned. Bounded: a notebook may make functions for ever.
MAX_MENTIONED = 1_000
_mentioned: set[str] = set()


def mention(func: Callable[..., Any], name: str, signature: inspect.Signature, returns: Any) -> None:
    """Log what is not checked, or will be refused, for want of an annotation.

    Args:
        func: The task's function.
        name: Full name of the task.
        signature: Signature of the function.
        returns: Its return annotation, resolved.
    """
    missing = [n for n, p in signature.parameters.items() if p.annotation is inspect.Parameter.empty]
    if missing:
        _once(
            name,
            f"Task {name} has no type annotation for {', '.join(missing)}: any value is taken, and pickled. "
            "Annotate it to have calls checked.",
        )
    if returns is inspect.Parameter.empty and _returns_something(func):
        _once(
            f"{name} ->",
            f"Task {name} returns a value and has no return annotation: as in Flyte, the value will be refused. "
            "Write `-> int`, or whatever it returns.",
        )


def _once(key: str, sentence: str) -> None:
    if key not in _mentioned and len(_mentioned) < MAX_MENTIONED:
        _mentioned.add(key)
        _log.warning("%s", sentence)


def _returns_something(func: Callable[..., Any]) -> bool:
    """Whether a function has a `return` with a value, as far as its bytecode shows."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    if code is None:
        return False
    before = None
    for step in dis.get_instructions(code):
        if step.opname == "RETURN_CONST":  # since Python 3.12
            if step.argval is not None:
                return True
        elif step.opname == "RETURN_VALUE" and not (
            before is not None and before.opname == "LOAD_CONST" and before.argval is None
        ):
            return True
        before = step
    return False
