"""Prepare a task call: bind, check, serialize and name it. Runs in: the thread of the calling code."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

from flyte_nb import errors
from flyte_nb.core.cache.key import CachedTask, key_of
from flyte_nb.core.control.calls import CALL_SITE_DIGITS, Call, call_site_of
from flyte_nb.core.control.gateway import Gateway
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES
from flyte_nb.core.settings.label import label_of_call
from flyte_nb.core.tasks.context import CallScope, Context
from flyte_nb.core.tasks.registry import NamedTask, announce_defined, links_given
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersion, VersionedTask
from flyte_nb.core.transport.payload import (
    ATOMS,
    Packed,
    Payload,
    UnpicklableError,
    can_pickle,
    describe_culprit,
    dumps,
    dumps_call,
    inline_bytes,
    inline_size,
    key_bytes,
    loads,
    opened,
)
from flyte_nb.core.values.describe import describe, forgotten_await
from flyte_nb.core.values.value_hash import content_hash, pickles_alike

#: What a call gets that a stopped cell makes, or has made and not begun.
STOPPED = "the cell was stopped: it starts nothing more"
#: Digits of an action's name that identify the version of its code.
CODE_DIGITS = 6
#: Parts of the names of what makes classes and functions of pickled definitions.
_MAKERS = (b"make_class", b"make_enum", b"_make_skeleton", b"_make_function", b"_make_empty_cell")


class CallableTask(CachedTask, NamedTask, VersionedTask, Protocol):
    """What a call needs of a task: `flyte_nb.core.tasks.task.Task`."""

    #: Names of its inputs, in order.
    input_names: tuple[str, ...]
    #: What it has in place of what its definition says.
    overrides: dict[str, Any]


def prepare(
    context: Context, task: CallableTask, args: tuple[Any, ...], kwargs: dict[str, Any], group: str = "",
    code: CodeVersion | None = None,
) -> Call:  # fmt: skip
    """Bind, check, serialize and name a call.

    Its group "" takes that of the context. Its `code` is the task's as it is now, if the caller has looked.

    Raises:
        errors.ArgumentError: The arguments do not fit the task's signature or types.
        UnpicklableError: An argument, or a global of the task's, cannot be sent; the message names it.
        errors.InlineIOMaxBytesBreached: They are larger than a ``max_inline_io_bytes`` that was set for the task.
        errors.LateCallError: The calling action has ended.
        asyncio.CancelledError: The calling cell was stopped.
    """
    if context.scope.stopped is not None and context.scope.stopped():
        raise asyncio.CancelledError(STOPPED) from None
    if context.scope.attachments.get("closed"):
        raise errors.LateCallError(
            f"{task.name} was called after its calling action {context.action} had ended. "
            "Await your children before you return."
        )
    if not task.config.announced and not (context.in_task and context.run.mode == "remote"):
        announce_defined(task.config)
    bound = task.interface.bind(args, kwargs)
    payload = call_payload(task, bound, context.gateway.blobs)
    group = group or context.group
    inputs = payload if not task.ignored_inputs else _without_ignored(task, bound, context.gateway.blobs)
    key = inputs_key(inputs, bound, task.ignored_inputs)
    name = name_call(context, as_it_was(context, task.identity), key, group)
    code = code if code is not None else code_of(context.gateway, task)
    label, cache_key = label_of_call(task, args, kwargs), cache_key_of(task, context.run, bound, code)
    return Call(
        task, context.run, name, context.action, payload, label, group, context.custom,
        context.scope.records.get(name), cache_key=cache_key, code=taken_along(context.gateway, code),
        links=links_given(task, context.run, name, context.action),
    )  # fmt: skip


async def refuse_if_stopped(scope: CallScope) -> None:
    """Refuse a call of a cell that was stopped. Code that catches that and calls again must not keep the loop to itself.

    Raises:
        asyncio.CancelledError: It was.
    """
    if scope.stopped is None or not scope.stopped():
        return
    caller = id(asyncio.current_task())
    again, scope.refused = scope.refused == caller, caller
    if again:
        await asyncio.sleep(0)
    raise asyncio.CancelledError(STOPPED) from None


def call_payload(task: CallableTask, bound: tuple[tuple[Any, ...], dict[str, Any]], blobs: Blobs) -> Payload:
    """A call's arguments, serialized.

    Raises:
        UnpicklableError: One cannot be sent; the message names it.
        errors.InlineIOMaxBytesBreached: They are larger than a ``max_inline_io_bytes`` that was set for the task.
    """
    try:
        payload = dumps_call(bound, blobs)
    except UnpicklableError as exc:
        raise UnpicklableError(_which_argument(task, bound, exc)) from exc.__cause__
    if task.config.max_inline_io_bytes != MAX_INLINE_IO_BYTES:
        _check_inputs(task, payload, bound)
    return payload


def _check_inputs(task: CallableTask, payload: Payload, bound: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    size = inline_bytes(payload)
    if size <= task.config.max_inline_io_bytes:
        return
    name, value = max(task.interface.named(*bound).items(), key=lambda item: inline_size(item[1]))
    raise too_large(task, f"argument {name!r} of {task.name}", value, size)


def too_large(task: CallableTask, what: str, value: object, size: int) -> errors.InlineIOMaxBytesBreached:
    """The error of inputs or a result over the limit that was set for a task.

    Args:
        task: The task.
        what: What the value is.
        value: The largest of its inputs, or its result.
        size: Bytes that count against the limit.
    """
    return errors.InlineIOMaxBytesBreached(
        f"{what}, a {describe(value)}, is too large: {size:,} bytes, and the task was given "
        f"max_inline_io_bytes={task.config.max_inline_io_bytes:,}. Raise that, or leave it out: large values then travel "
        "apart, as arrays, data frames and flyte.io.File do, which never count."
    )


def code_of(gateway: Gateway, task: CallableTask) -> CodeVersion | None:
    """A task's code as it is now; None where tasks are executed in this process.

    Raises:
        UnpicklableError: It cannot be sent to a worker.
    """
    versions = gateway.code
    return versions.of(task) if versions is not None else None


class CallersVariables(NamedTuple):
    """What a call takes along where tasks are executed in this process, in place of a version of its code."""

    context: contextvars.Context
    id: str = ""


def taken_along(gateway: Gateway, code: CodeVersion | None) -> CodeVersion | CallersVariables | None:
    """What an attempt has of the moment of its call: the code, or in local mode the caller's context variables."""
    return code if gateway.code is not None else CallersVariables(contextvars.copy_context())


def cache_key_of(
    task: CallableTask, run: RunInfo, bound: tuple[tuple[Any, ...], dict[str, Any]], code: CodeVersion | None
) -> bytes:
    """`flyte_nb.core.cache.key.key_of`, where the cache is on for the task and the run; else empty.

    Raises:
        Exception: What a cache policy or a hash function of the user's raises.
    """
    if not task.config.cache.is_enabled() or run.disable_run_cache:
        return b""
    return key_of(task, run, bound, code)


def as_it_was(context: Context, identity: str) -> str:
    """The identity that a task had when its run began: a retry with new code finds what the old code computed."""
    aliases = context.run.aliases
    return dict(aliases).get(identity, identity) if aliases else identity


def inputs_key(payload: Payload, bound: tuple[tuple[Any, ...], dict[str, Any]], ignored: Collection[str] = ()) -> bytes:
    """What identifies a call's inputs, in every kernel.

    That is their pickle, where equal values have equal ones. The order of a set differs from process to process, and so does
    the pickle of a class or function of the notebook, which travels with its definition: such inputs are hashed by content.
    """
    large = type(payload) is Packed and not payload.data
    if large and not ignored and pickles_alike(bound):
        return key_bytes(payload)
    data: Any = payload if type(payload) is not Packed else payload.data or bytes(opened(payload)[0])
    made = b"\x93" in data and any(maker in data for maker in _MAKERS)  # STACK_GLOBAL: a class or function is named
    if not made and b"\x8f" not in data and b"\x91" not in data:  # EMPTY_SET, FROZENSET
        return key_bytes(payload)
    if type(payload) is bytes and not bound[1] and all(type(value) in ATOMS for value in bound[0]):
        return payload  # a byte of a number, or of a text
    try:
        # Ignored inputs stand at their places as None, as in the payload.
        return content_hash(loads(payload) if ignored else bound)
    except Exception:  # what the user's objects raise: under this name the call is found again in this kernel only
        return key_bytes(payload)


def _without_ignored(task: CallableTask, bound: tuple[tuple[Any, ...], dict[str, Any]], blobs: Blobs) -> Payload:
    """A call's inputs without those that the cache ignores."""
    args = tuple(
        None if name in task.ignored_inputs else value for name, value in zip(task.input_names, bound[0], strict=False)
    )
    kwargs = {name: value for name, value in bound[1].items() if name not in task.ignored_inputs}
    return dumps((args, kwargs), blobs)


def name_call(context: Context, identity: str, key: bytes, group: str) -> str:
    """The deterministic name of a call: parent, task, inputs, group, and how often the parent made this very call.

    Its last digits are the code's, and children's names are made of the others: under a parent whose code was mended they are
    what they were.
    """
    stem, _, code = identity.rpartition(":")
    place = f"{call_site_of(context.action)}\0{stem}\0{group}\0"
    base = hashlib.blake2b(place.encode() + key, digest_size=CALL_SITE_DIGITS // 2)
    nth = context.scope.next(base.digest())
    if nth > 1:
        base.update(b"\0%d" % nth)
    return base.hexdigest() + code[:CODE_DIGITS]


def _which_argument(task: CallableTask, bound: tuple[tuple[Any, ...], dict[str, Any]], exc: UnpicklableError) -> str:
    for name, value in task.interface.named(*bound).items():
        forgotten = forgotten_await(value)
        if forgotten:
            return f"argument {name!r} of {task.name} cannot be sent to a worker. {forgotten}"
        if not can_pickle(value):
            return (
                f"argument {name!r} of {task.name} cannot be sent to a worker: {describe_culprit(value)} cannot be "
                f"pickled ({exc.__cause__}). Pass what it is made from (a path, a query, a configuration) and create it "
                "inside the task."
            )
    return f"the arguments of {task.name} cannot be sent to a worker: {exc}"
