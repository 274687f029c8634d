"""Trace: ``@flyte.trace`` records calls of plain helper functions, whose results are replayed when the task is retried.

A traced call is a child action of the running task that is executed in place (`flyte_nb.core.steps.step`), named as a child
task's call is. Outside tasks and cells the decorator does nothing. Runs in: the calling code.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from typing import Any, TypeVar, overload

from flyte_nb.core.control.calls import ResumePoint
from flyte_nb.core.history.facts import MAX_MESSAGE, ErrorNote, Phase
from flyte_nb.core.settings import validate
from flyte_nb.core.steps.step import Step
from flyte_nb.core.tasks.context import Context, current, using
from flyte_nb.core.tasks.prepare import inputs_key, name_call
from flyte_nb.core.transport.payload import Payload, dumps, loads, small
from flyte_nb.core.values import code_hash
from flyte_nb.core.values.describe import brief, label_of
from flyte_nb.core.values.user_code import is_task

F = TypeVar("F", bound=Callable[..., Any])
#: Largest result that is recorded, in bytes; a call with a larger one is executed again.
MAX_TRACED_BYTES = 8 * 1024 * 1024
#: Longest text of a result, in characters.
PREVIEW_CHARS = 300


class _Traced:
    """A function that is traced: name, version of its code, signature."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        qualified = str(getattr(func, "__qualname__", type(func).__qualname__)).replace("<locals>.", "")
        self.name = validate.name("The name of a traced function", qualified)
        # Now, where the source is at hand: a worker has no notebook to read it from.
        self.version = code_hash.function_version(func)
        try:
            self.signature: inspect.Signature | None = inspect.signature(func)
        except (TypeError, ValueError):
            self.signature = None

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in one form, however they were given; as given where they do not fit (the call will raise)."""
        if self.signature is None:
            return args, kwargs
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            return args, kwargs
        bound.apply_defaults()
        return bound.args, bound.kwargs


class _TracedCall(Step):
    """One traced call."""

    def __init__(self, traced: _Traced, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = traced.bind(args, kwargs)
        try:
            inputs: Payload | None = dumps(bound)
        except Exception:
            inputs = None  # a connection, say: the call is shown, but what was computed with it is not given again
        key = inputs_key(inputs, bound) if inputs is not None else b"unpicklable"
        name = name_call(context, f"trace:{context.trace}:{traced.name}:{traced.version}", key, context.group)
        super().__init__(context, name, traced.name, label_of(traced.name.rpartition(".")[2], bound))
        self._replayable = inputs is not None
        self._inputs = small(inputs)
        #: What the body sees: `flyte.ctx()` names this action, and tasks refuse to be called.
        self.inside = replace(context, trace=self.name)

    @property
    def record(self) -> Payload | None:
        """The result of the same call in an earlier attempt, serialized; None if there is none."""
        return super().record if self._replayable else None

    def replayed(self, record: Payload) -> Any:
        """The recorded value. It is shown as recovered where this run doesn't show it yet."""
        value = loads(record)
        if self.context.attempt == 0:
            now = time.time()
            self.queue(now, inputs=self._inputs)
            self._record(Phase.RECOVERED, now, record, brief(value, PREVIEW_CHARS))
        return value

    def start(self) -> None:
        """The body begins."""
        now = time.time()
        if type(self.found) is ResumePoint:  # it failed in an earlier attempt of the task
            self.resume(now, self.found.seq + 1, self.found.attempts)
        else:
            self.queue(now, inputs=self._inputs)
        self.begin(now)

    def returned(self, value: Any, shown: Any = None) -> None:
        """The body has returned: record the value, and show `shown` (by default the value itself) of it."""
        now = time.time()
        try:
            payload: Payload | None = dumps(value) if self._replayable else None
        except Exception:
            payload = None  # it is the caller's all the same; a retry executes the call again
        self._record(Phase.SUCCEEDED, now, payload, brief(value if shown is None else shown, PREVIEW_CHARS))

    def raised(self, exc: BaseException) -> None:
        """The body has raised, or was cancelled."""
        if isinstance(exc, GeneratorExit | asyncio.CancelledError):
            self.end(Phase.ABORTED, time.time())
        else:
            self.end(Phase.FAILED, time.time(), ErrorNote("user", type(exc).__name__, str(exc)[:MAX_MESSAGE]))

    def _record(self, phase: Phase, now: float, payload: Payload | None, preview: str) -> None:
        output = small(payload)
        self.end(phase, now, output=output, preview=preview)
        if payload is not None and output is None and len(payload) <= MAX_TRACED_BYTES:
            self.context.gateway.ask_home(self.context.run, "keep_result", (self.name, payload))


@overload
def trace(func: F) -> F: ...


@overload
def trace(func: None = None) -> Callable[[F], F]: ...


def trace(func: Any = None) -> Any:
    """Record calls of a plain function made inside tasks: inputs, result, time and error, as an action of their own.

    When the task is retried or recovered, calls that succeeded are not executed again: their recorded results are returned.
    All kinds of function are taken: ``def``, generators, ``async def`` and asynchronous generators; a generator's items pass
    through as they come, and are recorded once it is exhausted. Exceptions are raised as they are. Outside tasks and cells
    the function is called as if it were not decorated.

    Args:
        func: The function; ``@flyte.trace`` and ``@flyte.trace()`` are the same.

    Raises:
        TypeError: It is a task, which is recorded anyway, or nothing that can be called.

    Example:
        >>> @flyte.trace
        ... async def ask_model(prompt: str) -> str: ...
    """
    if func is None:
        return trace
    if is_task(func):
        raise TypeError(f"@flyte.trace is for plain functions: {func.name} is a task, whose calls are recorded anyway.")
    if not callable(func):
        raise TypeError(f"@flyte.trace takes a function, not {func!r}.")
    if inspect.isasyncgenfunction(func):
        return _trace_async_generator(_Traced(func))
    if inspect.iscoroutinefunction(func):
        return _trace_coroutine(_Traced(func))
    if inspect.isgeneratorfunction(func):
        return _trace_generator(_Traced(func))
    return _trace_function(_Traced(func))


def _trace_function(traced: _Traced) -> Callable[..., Any]:
    func = traced.func

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = current()
        if context is None:
            return func(*args, **kwargs)
        step = _TracedCall(traced, context, args, kwargs)
        if (record := step.record) is not None:
            return step.replayed(record)
        step.start()
        try:
            with using(step.inside):
                value = func(*args, **kwargs)
        except BaseException as exc:
            step.raised(exc)
            raise
        step.returned(value)
        return value

    return wrapper


def _trace_coroutine(traced: _Traced) -> Callable[..., Any]:
    func = traced.func

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = current()
        if context is None:
            return await func(*args, **kwargs)
        step = _TracedCall(traced, context, args, kwargs)
        if (record := step.record) is not None:
            return step.replayed(record)
        step.start()
        try:
            with using(step.inside):
                value = await func(*args, **kwargs)
        except BaseException as exc:
            step.raised(exc)
            raise
        step.returned(value)
        return value

    return wrapper


def _trace_generator(traced: _Traced) -> Callable[..., Any]:
    func = traced.func

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        context = current()
        if context is None:
            return (yield from func(*args, **kwargs))
        step = _TracedCall(traced, context, args, kwargs)
        if (record := step.record) is not None:
            items, value = step.replayed(record)
            yield from items
            return value
        step.start()
        items = []
        generator = func(*args, **kwargs)
        advance: Callable[[Any], Any] = generator.send
        given: Any = None
        try:
            while True:
                with using(step.inside):  # not around the yield: there the consumer's code runs
                    item = advance(given)
                items.append(item)
                try:
                    advance, given = generator.send, (yield item)
                except GeneratorExit:
                    with using(step.inside):
                        generator.close()
                    raise
                except BaseException as exc:
                    advance, given = generator.throw, exc
        except StopIteration as stop:
            step.returned((items, stop.value), items)
            return stop.value
        except BaseException as exc:
            step.raised(exc)
            raise

    return wrapper


def _trace_async_generator(traced: _Traced) -> Callable[..., Any]:
    func = traced.func

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        __tracebackhide__ = True
        context = current()
        if context is None:
            async for item in func(*args, **kwargs):
                yield item
            return
        step = _TracedCall(traced, context, args, kwargs)
        if (record := step.record) is not None:
            for item in step.replayed(record)[0]:
                yield item
            return
        step.start()
        items = []
        generator = func(*args, **kwargs)
        advance: Callable[[Any], Any] = generator.asend
        given: Any = None
        try:
            while True:
                with using(step.inside):
                    item = await advance(given)
                items.append(item)
                try:
                    advance, given = generator.asend, (yield item)
                except GeneratorExit:
                    with using(step.inside):
                        await generator.aclose()
                    raise
                except BaseException as exc:
                    advance, given = generator.athrow, exc
        except StopAsyncIteration:
            step.returned((items, None), items)
        except BaseException as exc:
            step.raised(exc)
            raise

    return wrapper
