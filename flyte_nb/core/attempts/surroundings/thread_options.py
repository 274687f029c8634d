"""Thread options: settings of libraries that each thread has for itself. Runs in: the thread of a lane.

scikit-learn's ``set_config`` and PyTorch's ``set_grad_enabled`` belong to a thread, which the attempts of a lane share: several
take turns on it, one after the other begins on it. So what a step of an attempt leaves behind is put aside until its next step,
and is gone with the attempt. Only where such a library is imported; else a step costs the look at an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class _OfThread(NamedTuple):
    """What a thread has for itself."""

    module: str
    #: Takes what was set on this thread, which is as a new one afterwards; None if nothing was.
    take: Callable[[Any], Any]
    put: Callable[[Any, Any], object]


def _take_sklearn(module: Any) -> Any:
    found = vars(module._threadlocal).pop("global_config", None)  # noqa: SLF001 - there is no other way to see whether it was set
    return None if found == module._global_config else found  # noqa: SLF001 - whoever looks has a copy of them


def _put_sklearn(module: Any, config: Any) -> None:
    module._threadlocal.global_config = config  # noqa: SLF001


def _take_torch(module: Any) -> Any:
    if module.is_grad_enabled():
        return None
    module._C._set_grad_enabled(True)  # noqa: SLF001 - `set_grad_enabled` is a context, which would undo it
    return True


def _put_torch(module: Any, _off: Any) -> None:
    module._C._set_grad_enabled(False)  # noqa: SLF001


_OPTIONS = (
    _OfThread("sklearn._config", _take_sklearn, _put_sklearn),
    _OfThread("torch", _take_torch, _put_torch),
)
#: Those whose library is imported.
LOADED: list[_OfThread] = []


def imported() -> None:
    """Modules were imported: some of them may have such options."""
    LOADED[:] = [option for option in _OPTIONS if option.module in sys.modules]


def take() -> list[tuple[_OfThread, Any]]:
    """Have this thread be as a new one; returns what was set on it."""
    found = [(option, option.take(sys.modules[option.module])) for option in LOADED]
    return [(option, kept) for option, kept in found if kept is not None]


def put(kept: list[tuple[_OfThread, Any]]) -> None:
    """Set on this thread what was taken."""
    for option, value in kept:
        option.put(sys.modules[option.module], value)
