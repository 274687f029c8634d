"""Rebind the classes in a pickle from disk: those of the notebook become this kernel's. Runs in: the cache's thread.

A class defined in a notebook is pickled with its definition. Read in another kernel, or after its cell ran again, such a pickle
would make a second class of the same name, and ``isinstance`` would deny it. So it is opened once, with the notebook's own
classes in their place, and pickled anew. A pickle that cannot be opened here (a package is missing, or another version) is no
result.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import sys
from typing import Any

from flyte_nb.core.transport.payload import Payload, is_small, opened, replaced
from flyte_nb.core.values import pickler
from flyte_nb.core.values.by_value import classes

logger: logging.Logger = logging.getLogger("flyte")

#: Addresses below the folder of a session's large data (`flyte_nb.core.transport.process_folder`): they go with their session,
#: and a reference to them (a `flyte.io.File`) is no result without them.
#: A match begins with a run of such characters only: linear in the pickle's size.
_SESSION_FILE = re.compile(rb"(?<![\w./-])[\w.-]*+(/[\w./-]*?/flyte_nb-[\w.-]++/[\w./-]*+)")


#: Names in a pickle that makes classes, as `flyte_nb.core.values.by_value.classes` writes it now and cloudpickle did before.
_MAKERS = re.compile(rb"_make_skeleton|make_class|make_enum")


def has_globals(data: Any) -> bool:
    """Whether a pickle may name a class or function; one of plain values doesn't."""
    return data.find(b"\x93") >= 0  # type: ignore[no-any-return]  # STACK_GLOBAL, the only opcode for it in protocol 5


def renewed(payload: Payload) -> Payload | None:
    """The payload as this kernel would have made it; None if it cannot be opened here."""
    data, buffers = opened(payload)
    if not has_globals(data):
        return payload
    if any(not os.path.exists(os.fsdecode(path)) for path in _session_files(data)):  # noqa: PTH110 - bytes
        return None
    try:
        value = _Unpickler(io.BytesIO(data), buffers=buffers).load()
        return replaced(payload, _again(value)) if _MAKERS.search(data) is not None else payload
    except Exception:
        logger.debug("a cached result cannot be opened here", exc_info=True)
        return None


def _session_files(data: Any) -> list[bytes]:
    return _SESSION_FILE.findall(data) if data.find(b"/flyte_nb-") >= 0 else []


def _again(value: object) -> bytes:
    with io.BytesIO() as file:
        # The same buffers in the same order: they stay as they are.
        pickler.Pickler(file, protocol=5, buffer_callback=is_small).dump(value)
        return file.getvalue()


class _Unpickler(pickle.Unpickler):
    """Puts this process's classes where the pickle brings its own definition of them."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module.startswith("cloudpickle") or module == classes.__name__:
            if name in ("_make_skeleton_class", "make_class"):
                return lambda *args: _own(str(args[3].get("__module__")), args[1]) or found(*args)
            if name in ("_make_skeleton_enum", "make_enum"):
                return lambda *args: _own(args[4], args[1]) or found(*args)
            if name == "_class_setstate":
                return lambda cls, state: cls if _own(cls.__module__, cls.__qualname__) is cls else found(cls, state)
        return found


def _own(module: str, name: str) -> type | None:
    cls = getattr(sys.modules.get(module), name, None)
    return cls if isinstance(cls, type) and cls.__module__ == module and cls.__qualname__ == name else None
