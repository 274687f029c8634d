"""Key of a call in the result cache. Runs in: the thread of the calling code."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from typing import Any, Protocol

from flyte_nb.core.control.calls import TaskSpec
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.interface.interface import Interface
from flyte_nb.core.settings.notices import notice_once
from flyte_nb.core.values.value_hash import content_hash

#: Names the layout of keys; a change makes all earlier entries unreachable, never wrong.
KEY_FORMAT = "3"
#: Versions remembered, so that a map computes its task's once: the tasks of a run, and their overrides.
MAX_PREFIXES = 256
#: A result made by one Python may be pickled in a way that another cannot read.
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_Prefix = tuple[Any, tuple[str, Any, Any], "hashlib.blake2b"]
_prefixes: OrderedDict[int, _Prefix] = OrderedDict()


class CachedTask(TaskSpec, Protocol):
    """What a key needs of a task."""

    interface: Interface
    ignored_inputs: tuple[str, ...] | str

    def read_state(self) -> bytes:
        """A hash of what its code reads now, if that counts."""

    def held_state(self) -> bytes:
        """A hash of what its function holds, if that is a partial or an object."""

    def cache_version(self) -> str:
        """The version under which its results are kept, as of now."""


def key_of(task: CachedTask, run: RunInfo, bound: tuple[tuple[Any, ...], dict[str, Any]], code: object = None) -> bytes:
    """What identifies a call for the cache: inputs, task, interface, version, and what its code reads.

    Args:
        task: The task.
        run: The run of the call.
        bound: The arguments.
        code: The task's `CodeVersion`, for which the version is computed once within a run; None where code does not travel.

    Returns:
        20 bytes; none if an input cannot be hashed, and then the call takes no part in the cache.

    Raises:
        Exception: What a cache policy or a hash function of the user's raises.
    """
    found = _prefix(task, run, code).copy()
    named = task.interface.named(*bound)
    for name in task.ignored_inputs:
        named.pop(name, None)
    for name, hint in task.interface.get_input_types().items():
        method = _hash_method(hint)
        if method is not None and name in named:
            method.update(named[name])
            named[name] = f"hash:{method.result()}"
    try:
        found.update(content_hash(named) + task.held_state())
    except Exception as exc:
        notice_once(
            f"cache-key-{task.name}"[:100], f"Calls of {task.name} are not cached: an input cannot be hashed ({exc})."
        )
        return b""
    return found.digest()


def _hash_method(hint: Any) -> Any:
    """The hash method in an ``Annotated``, by shape; None if there is none."""
    for each in getattr(hint, "__metadata__", ()):
        if callable(getattr(each, "update", None)) and callable(getattr(each, "result", None)):
            return each
    return None


def _prefix(task: CachedTask, run: RunInfo, code: object) -> hashlib.blake2b:
    """Everything of a key but the inputs."""
    known = _prefixes.get(id(task))
    now = (run.name, run.started_at, code)
    if code is not None and known is not None and known[0] is task and known[1] == now:
        return known[2]
    # Local mode is for unit tests, which mock parts of the program: their results are of no use elsewhere.
    place = "local" if run.mode == "local" else "cluster"
    parts = (KEY_FORMAT, _PYTHON, place, task.name, task.interface.signature_text(), task.cache_version())
    made = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=20)
    if place != "local":  # there tasks themselves change what they read
        made.update(task.read_state())
    _prefixes[id(task)] = (task, now, made)
    while len(_prefixes) > MAX_PREFIXES:
        _prefixes.popitem(last=False)
    return made
