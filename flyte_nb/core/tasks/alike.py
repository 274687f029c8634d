"""Alike calls, prepared as rows: bound, checked, serialized and named as `prepare` does, what they share once.

Runs in: the thread of the calling code.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import operator
from collections.abc import Callable, Collection
from pickle import dumps
from typing import Any

from flyte_nb.core.control.calls import CALL_SITE_DIGITS, Settled, call_site_of
from flyte_nb.core.control.rows import Rows
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES
from flyte_nb.core.tasks.context import Context
from flyte_nb.core.tasks.prepare import CODE_DIGITS, STOPPED, as_it_was, inputs_key
from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.core.transport.payload import PLAIN, SMALL_BYTES, dumps_call
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import label_of

#: Fewer calls than this are actions of their own: what is small is shown whole.
LEAST = 256
#: Calls in one batch of rows: their lists and arrays cost little more than the rows.
MOST = 2_048
#: Types of values whose pickles name no class.
_ATOMS = PLAIN - {complex}


def may_be_rows(context: Context, task: Any) -> bool:
    """Whether calls of a task are plain: nothing but their inputs and their results differs, or is to be watched."""
    run, config = context.run, task.config
    limits = config.timeout
    return (
        context.gateway.takes_rows
        and not (context.custom or context.scope.records or run.recovers or run.max_action_concurrency)
        and (run.disable_run_cache or not config.cache.is_enabled())
        and limits.deadline_s is None
        and limits.queued_s is None
        and not limits.runtime_s
        and config.max_inline_io_bytes == MAX_INLINE_IO_BYTES
        and not task.ignored_inputs
        and not any(redact.hides(name, "x") for name in task.input_names)
    )


class RowMaker:
    """Makes rows of calls that are made one after another.

    Args:
        context: Of the caller.
        task: What is called.
        group: Their group.
        code: As of `flyte_nb.core.tasks.prepare.prepare`.
        deliver: Called when results have come.
        settle_one: Called with how a row was settled that went alone.
    """

    def __init__(
        self, context: Context, task: Any, group: str, code: CodeVersion | None,
        deliver: Callable[[Collection[int]], None],
        settle_one: Callable[[Rows, int, Settled], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._task = task
        self._bind = task.interface.bind
        identity = as_it_was(context, task.identity)
        stem, _, version = identity.rpartition(":")
        place = f"{call_site_of(context.action)}\0{stem}\0{group}\0"
        self._place = hashlib.blake2b(place.encode(), digest_size=CALL_SITE_DIGITS // 2)
        self.rows = Rows(task, context.run, context.action, group, code, version[:CODE_DIGITS], deliver, settle_one)
        self._names = bytearray()
        self._payloads: list[bytes] = []
        self._given: list[tuple[Any, ...]] = []
        #: Whether all inputs are plain built-in values, so that labels can be made of them at any time.
        self._plain = True

    def __len__(self) -> int:
        return len(self._payloads)

    def add(self, many: list[tuple[Any, ...]]) -> int:
        """Add calls; returns how many: the next one must be an action of its own, its inputs are large, or it cannot be made.

        Raises:
            asyncio.CancelledError: As of `flyte_nb.core.tasks.prepare.prepare`.
        """
        context = self._context
        if context.scope.stopped:
            raise asyncio.CancelledError(STOPPED) from None
        keys, made = list[bytes](), list[Any]()
        with contextlib.suppress(Exception):  # made once more, as a call of its own, it says so
            for args in many:
                bound = self._bind(args, {})
                if bound[0] is args and self._are_plain(args):
                    payload = key = dumps(bound, 5)
                else:
                    payload = self._dumped(args, bound)
                    key = inputs_key(payload, bound)
                if len(payload) > SMALL_BYTES:
                    break
                base = self._place.copy()
                base.update(key)
                keys.append(base.digest())
                made.append(base)
                self._payloads.append(payload)
        n = len(keys)
        del self._payloads[len(self._given) + n :]
        self._given += many[:n]
        again = context.scope.next_of(b"".join(keys))
        for at, nth in enumerate(again or ()):
            if nth > 1:
                made[at].update(b"\0%d" % nth)
                keys[at] = made[at].digest()
        self._names += b"".join(keys)
        return n

    @staticmethod
    def _are_plain(args: tuple[Any, ...]) -> bool:
        for value in args:  # noqa: SIM110 - `all` takes three times as long
            if type(value) not in _ATOMS:
                return False
        return True

    def _dumped(self, args: tuple[Any, ...], bound: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
        payload = dumps_call(bound, self._context.gateway.blobs)
        if type(payload) is not bytes:
            raise ValueError("it is large")
        if b"\x93" in payload or not all(map(operator.is_, args, bound[0])):
            self._plain = False  # a class is named, or something was made of what was given
        return payload

    def sealed(self) -> Rows:
        """The rows of all calls so far, one at least."""
        task, given = self._task, self._given
        labels: Any = (task.short_name, task.input_names, len(given[0]))
        if not self._plain:
            labels = [label_of(task.short_name, (args, {}), task.input_names) for args in given]
        self.rows.seal(bytes(self._names), self._payloads, labels)
        return self.rows
