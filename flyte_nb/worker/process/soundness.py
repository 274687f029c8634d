"""Soundness of a worker process after a body: whether what a report needs is here, and whose callback ended a loop.

Runs in: worker process, task thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import sys
from typing import Any, cast

from flyte_nb.core.control.work import Work

_loaded = sys.modules.get
_own, _wire, _codec = sys.modules[__name__], sys.modules[Work.__module__], cast("Any", pickle)


def intact() -> bool:
    """Whether what a report needs is still here: a body can remove modules, or break pickle.

    Looked at as each body ends, since nobody else is to blame then.
    """
    return (
        callable(_codec.dumps) and callable(_codec.loads)
        and _loaded(__name__) is _own and _loaded("flyte_nb.core.control.work") is _wire
    )  # fmt: skip


def escaped_from(error: BaseException) -> contextvars.Context | None:
    """The context of the callback that an exception came from, through a loop that it ended."""
    trace = error.__traceback__
    while trace is not None:
        handle = trace.tb_frame.f_locals.get("self") if trace.tb_frame.f_code is asyncio.Handle._run.__code__ else None  # noqa: SLF001 - nothing else tells whose callback it was
        if handle is not None:
            return cast("contextvars.Context", handle._context)  # noqa: SLF001 - see above
        trace = trace.tb_next
    return None
