"""One task call, bound, serialized and named: ready to be submitted. Runs in: the thread of the calling code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flyte_nb.core import errors, redact
from flyte_nb.core.model import ErrorNote
from flyte_nb.core.notices import announce_defined
from flyte_nb.core.serial import Payload, UnpicklableError, can_pickle, describe_culprit, dumps_call, key_bytes

if TYPE_CHECKING:
    from flyte_nb.core.context import Context, RunInfo
    from flyte_nb.core.task import Task

#: Longest label, in characters: one row of a view.
LABEL_CHARS = 100
#: Digits of an action's name that say which call of which parent it is: with a million actions, one chance in 10 million that
#: two are alike.
PLACE_DIGITS = 16
#: Digits of an action's name that tell versions of its code apart.
CODE_DIGITS = 6
#: Longest text of one argument in a label.
VALUE_CHARS = 40


class Lived(NamedTuple):
    """Where an action stands that has ended before and is to be executed again."""

    #: Number of its controller's last word.
    seq: int
    #: Attempts it has had.
    attempts: int
    #: What its last attempt came to where nobody was left to hear of it (its worker, and its owner's, ran out of memory).
    error: ErrorNote | None = None


class Call:
    """A task call on its way to the controller."""

    __slots__ = (
        "_cache_key", "_keyed_task", "custom", "group", "kind", "label", "name", "parent", "payload", "record", "run", "task",
    )  # fmt: skip

    def __init__(
        self, task: Task[..., Any], run: RunInfo, name: str, parent: str, payload: Payload, label: str, group: str,
        custom: tuple[tuple[str, str], ...], record: Payload | Lived | None = None, kind: str = "task",
        cache_key: bytes = b"",
    ) -> None:  # fmt: skip
        self.task = task
        self.run = run
        #: Deterministic within the run.
        self.name = name
        #: Name of the calling action.
        self.parent = parent
        #: Serialized (args, kwargs).
        self.payload = payload
        #: "square(3)".
        self.label = label
        self.group = group
        self.custom = custom
        #: What became of the same call in an earlier attempt of the parent: its result, or where it stands; None: it is new.
        self.record = record
        self.kind = kind
        self._cache_key = cache_key
        self._keyed_task = task

    @property
    def cache_key(self) -> bytes:
        """What identifies the call for the cache (`caching.key_of`); empty: it takes no part, as with other code."""
        return self._cache_key if self.task is self._keyed_task else b""


def prepare(
    context: Context, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], group: str = ""
) -> Call:
    """Bind, check, serialize and name a call.

    Args:
        context: Where the calling code stands.
        task: What is called.
        args: Positional arguments.
        kwargs: Keyword arguments.
        group: Group of the call; "" takes the context's.

    Raises:
        errors.ArgumentError: The arguments do not fit the task's signature or types.
        UnpicklableError: An argument cannot be sent; the message names it.
        errors.InlineIOMaxBytesBreached: They are larger than the task's ``max_inline_io_bytes`` (large buffers aside).
        errors.LateCallError: The calling action has ended.
    """
    if context.frame.attachments.get("closed"):
        raise errors.LateCallError(
            f"{task.name} was called after its calling action {context.action} had ended. "
            "Await your children before you return."
        )
    if not task.config._announced and not (context.in_task and context.run.mode == "remote"):
        announce_defined(task.config)
    bound = task.interface.bind(args, kwargs)
    try:
        payload = dumps_call(bound, context.port.blobs)
    except UnpicklableError as exc:
        raise UnpicklableError(_which_argument(task, bound, exc)) from exc.__cause__
    inline = len(payload) if type(payload) is bytes else len(payload.data)  # type: ignore[union-attr]
    if inline > task.config.max_inline_io_bytes:
        raise errors.InlineIOMaxBytesBreached(
            f"the inputs of {task.name} are {inline:,} bytes, more than max_inline_io_bytes="
            f"{task.config.max_inline_io_bytes:,}. Pass a flyte.io.File, a DataFrame or an array (they travel apart), "
            "or raise the limit in @env.task(max_inline_io_bytes=...)."
        )
    group = group or context.group
    inputs = payload if not task.ignored_inputs else task.key_payload(bound)
    name = name_call(context, as_it_was(context, task.identity), inputs, group)
    label = label_of(task.short_name, (args, kwargs), task.input_names)
    return Call(
        task, context.run, name, context.action, payload, label, group, context.custom,
        context.frame.records.get(name), cache_key=cache_key_of(task, context.run, bound),
    )  # fmt: skip


def cache_key_of(task: Task[..., Any], run: RunInfo, bound: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
    """`caching.key_of`, where the cache is on for the task and the run; else empty.

    Raises:
        Exception: What a cache policy or a hash function of the user's raises.
    """
    if not task.config.cache.is_enabled() or run.disable_run_cache:
        return b""
    from flyte_nb.core.caching import key_of

    return key_of(task, run, bound)


def as_it_was(context: Context, identity: str) -> str:
    """The identity that a task had when its run began: a retry with new code finds what the old code computed."""
    aliases = context.run.aliases
    return dict(aliases).get(identity, identity) if aliases else identity


def name_call(context: Context, identity: str, payload: Payload, group: str) -> str:
    """The deterministic name of a call: parent, task, inputs, group, and how often the parent made this very call.

    Its last digits are the code's, and children's names are made of the others: under a parent whose code was mended they are
    what they were.
    """
    stem, _, code = identity.rpartition(":")
    place = f"{place_of(context.action)}\0{stem}\0{group}\0"
    base = hashlib.blake2b(place.encode() + key_bytes(payload), digest_size=PLACE_DIGITS // 2)
    nth = context.frame.next(base.digest())
    if nth > 1:
        base.update(b"\0%d" % nth)
    return base.hexdigest() + code[:CODE_DIGITS]


def place_of(name: str) -> str:
    """The part of an action's name that its code has no part in."""
    return name[:PLACE_DIGITS]


def label_of(name: str, bound: tuple[tuple[Any, ...], dict[str, Any]], names: tuple[str, ...] = ()) -> str:
    """A bounded label such as ``process_chunk(3, 'data4')``; never calls user code.

    Args:
        name: What is called.
        bound: Its arguments.
        names: Names of the positional ones: what goes by a secret's name is masked, since labels are kept in notebooks.
    """
    args, kwargs = bound
    if len(args) == 1 and not kwargs and type(args[0]) is int:
        return f"{name}({args[0]})"  # the commonest call, a map over numbers
    parts = [_shown(names[i] if i < len(names) else "", value) for i, value in enumerate(args[:6])]
    parts += [f"{key}={_shown(key, value)}" for key, value in list(kwargs.items())[: 6 - len(parts)]]
    if len(args) + len(kwargs) > 6:
        parts.append("...")
    text = ", ".join(parts)
    if len(text) > LABEL_CHARS:
        text = text[: LABEL_CHARS - 3] + "..."
    return f"{name}({text})"


def _shown(name: str, value: object) -> str:
    return redact.MASK if name and redact.hides(name, value) else brief(value)


def brief(value: object, limit: int = VALUE_CHARS) -> str:
    """A short text of a value: its repr for plain values, else type and size; never calls a user's repr."""
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None or kind is complex:
        text = repr(value)
        return text if len(text) <= limit else text[: limit - 3] + "..."
    if kind is str:
        text = repr(value[: limit + 1])  # type: ignore[index]
        return text if len(text) <= limit else text[: limit - 4] + "...'"
    if kind is bytes or kind is bytearray:
        return f"<{len(value):,} bytes>"  # type: ignore[arg-type]
    if kind in _BRACKETS:
        return _brief_items(value, limit)
    if callable(value):
        return str(getattr(value, "short_name", None) or getattr(value, "__name__", kind.__name__))[:limit]
    shape = getattr(value, "shape", None)
    if type(shape) is tuple and all(type(n) is int for n in shape):
        return f"<{kind.__name__} {'x'.join(map(str, shape))}>"
    return f"<{kind.__name__}>"


_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: "{}"}


def _brief_items(value: Any, limit: int) -> str:
    brackets = _BRACKETS[type(value)]
    parts, used = [], 0
    items = value.items() if type(value) is dict else value
    for count, item in enumerate(items):
        text = f"{brief(item[0], 12)}: {brief(item[1], 12)}" if type(value) is dict else brief(item, 16)
        used += len(text) + 2
        if used > limit - 8:
            parts.append(f"...{len(value) - count} more")
            break
        parts.append(text)
    return brackets[0] + ", ".join(parts) + brackets[1]


def _which_argument(task: Task[..., Any], bound: tuple[tuple[Any, ...], dict[str, Any]], exc: UnpicklableError) -> str:
    names = list(task.interface.inputs)
    named = {**dict(zip(names, bound[0], strict=False)), **bound[1]}
    for name, value in named.items():
        if not can_pickle(value):
            return (
                f"argument {name!r} of {task.name} cannot be sent to a worker: {describe_culprit(value)} cannot be "
                f"pickled ({exc.__cause__}). Pass what it is made from (a path, a query, a configuration) and create it "
                "inside the task."
            )
    return f"the arguments of {task.name} cannot be sent to a worker: {exc}"


Deliver = Callable[["Settled"], None]


class Settled:
    """What an awaiting caller gets: a value to unpickle, or an error to raise."""

    __slots__ = ("call", "code", "error", "kind", "message", "payload")

    def __init__(
        self, kind: str, call: Call | None, payload: Payload | None = None, error: Any = None, code: str = "",
        message: str = "",
    ) -> None:  # fmt: skip
        #: "ok", "error", "cancelled" or "aborted".
        self.kind = kind
        self.call = call
        self.payload = payload
        #: The `ErrorNote` of the last attempt, if it failed.
        self.error = error
        #: Class name in `flyte_nb.core.errors` that the caller gets, where it is not the error's own.
        self.code = code
        self.message = message
