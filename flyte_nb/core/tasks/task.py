"""A task: a function whose calls become actions. Runs in: everywhere.

A task carries no machinery (no loop, no lock, no client): it is pickled by value from the notebook, and finds its
controller through the context at call time. Called outside any run, it is the plain function.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import operator
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, overload

from flyte_nb import errors
from flyte_nb.core.interface.annotations import underlying
from flyte_nb.core.interface.interface import Interface
from flyte_nb.core.interface.missing_annotations import are_missing
from flyte_nb.core.settings.cache import Cache, VersionParameters
from flyte_nb.core.settings.config import TaskConfig
from flyte_nb.core.settings.copies import Copies
from flyte_nb.core.settings.label import check_label
from flyte_nb.core.settings.retry import RetryStrategy, Timeout
from flyte_nb.core.tasks import callables
from flyte_nb.core.tasks.alike import AHEAD, Burst, goes_on, hand_over_before
from flyte_nb.core.tasks.awaited import is_awaited
from flyte_nb.core.tasks.context import CallScope, Context, current
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.core.tasks.prepare import prepare, refuse_if_stopped
from flyte_nb.core.transport import patched
from flyte_nb.core.transport.bursts import CALLS
from flyte_nb.core.transport.mailbox import running_loop
from flyte_nb.core.values.by_value.classes import Classes, being_loaded
from flyte_nb.core.values.code_hash import code_version, function_version, functions_used
from flyte_nb.core.values.value_hash import content_hash, state_hash

P = ParamSpec("P")
#: Covariant: checkers call an ``async def`` function's result by different names (`Coroutine`, `CoroutineType`).
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


def _attribute(path: str, doc: str) -> Any:
    """A read-only property with the value of an attribute of an attribute."""
    return property(operator.attrgetter(path), doc=doc)


class TaskTemplate(Generic[P, R_co]):
    """Base of everything that can be called as a task; ``isinstance(t, flyte.TaskTemplate)`` is true of all tasks."""


class Task(TaskTemplate[P, R_co]):
    """What ``@env.task`` makes of a function.

    Attributes:
        func: The function.
        name: "<environment>.<function>".
        config: Retries, timeout, cache, resources and the rest, resolved.
        is_async: Whether the function is an ``async def``.
        unannotated: Whether it lacks annotations that Flyte wants; False on workers.
    """

    unannotated: bool = False
    #: Whether its function yields (`flyte_nb.core.streams.stream_task`).
    is_stream: bool = False

    def __init__(self, *, func: Callable[P, R_co], name: str, env: Environment | None, config: TaskConfig) -> None:
        self.func = func
        self.name = name
        self.config = config
        self.is_async: bool = callables.is_async(func)
        self.interface: Interface = Interface.of(func, task=name)
        check_label(config.label, name, tuple(self.interface.inputs))
        if are_missing(func, name, self.interface.signature):
            self.unannotated = True
        #: What a call's deterministic name is derived from: full name, interface and code; not resources or overrides.
        #: (What a partial or an object holds stands before the code's digits, which an edit changes and nothing else.)
        held = f"{callables.state_digits(func)}:" if callables.holds_state(func) else ""
        self.identity: str = f"{name}:{self.interface.signature_text()}:{held}{function_version(func)}"
        self.ignored_inputs: tuple[str, ...] | str = config.cache.ignored_inputs
        #: What `override` changed; empty on a worker.
        self.overrides: dict[str, Any] = {}
        #: On a worker, those that came with its code.
        self.classes: Classes | None = None
        #: Of `flyte_nb.core.transport.code_versions`.
        self.code_memo: Any = None
        #: The reading of its module that made it: an `importlib.reload` makes another.
        self._reading = getattr(sys.modules.get(getattr(func, "__module__", "")), "__spec__", None)
        #: What `override` made of it: they follow when it is made anew.
        self.copies: Copies[Task[P, R_co]] = Copies()
        #: What it is a copy of; None of a task as it was defined.
        self.copied: Task[P, R_co] | None = None
        self._sent: Task[P, R_co] | None = None
        self._env = env
        #: Computed where the function is at hand, and carried along: a worker has no notebook to read the source from.
        self._code_version = ""
        self._cache_version = ""
        self._dress()

    def _dress(self) -> None:
        #: Names of the inputs, in order.
        self.input_names: tuple[str, ...] = tuple(self.interface.inputs)
        if hasattr(self.func, "__name__"):
            functools.update_wrapper(self, self.func)
        else:  # an object, whose attributes are its own, or a partial
            functools.update_wrapper(self, self.func, updated=())
            self.__name__: str = callables.name_of(self.func)
            self.__qualname__ = self.__name__
            if isinstance(self.func, functools.partial):
                self.__doc__ = self.func.func.__doc__
        if self.is_async:
            # asyncio.iscoroutinefunction looks for this marker; inspect's own exists from 3.12 on.
            self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    # -- calling --------------------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the task.

        Inside a run: an ``async def`` task gives a coroutine that submits an action when it first runs, and so does a
        ``def`` task whose call is awaited where it stands (``await f(3)``, ``gather(f(1), f(2))``); else a ``def`` task
        submits one and blocks until it is done. Outside a run: calls the function.

        Raises:
            errors.TraceDoesNotAllowNestedTasksError: Inside a ``@flyte.trace`` function; use `forward` there.
            errors.BaseRuntimeError: The action failed (of a class that also derives from the original exception's).
        """
        context = current()
        # `await square(3)` means the cluster, also of a `def` task.
        awaited = self.is_async or (running_loop() is not None and is_awaited(sys._getframe(1), self))  # noqa: SLF001 - Python's name for it
        if context is None:
            return self.aio(*args, **kwargs) if awaited and not self.is_async else self.func(*args, **kwargs)  # type: ignore[return-value]
        if context.trace:
            raise inside_trace(self, context)
        if awaited:
            if context.scope.watch is not None:
                return self._watched(context.scope, args, kwargs)  # type: ignore[return-value]
            return self._submit(args, kwargs)  # type: ignore[return-value]
        if running_loop() is not None:
            if context.is_async:
                _refuse_or_warn(self, context)
            elif context.scope.watch is not None:
                context.scope.watch.plain = self.short_name
        return context.gateway.wait_sync(prepare(context, self, args, kwargs))  # type: ignore[no-any-return]

    def _watched(self, scope: CallScope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """A call in a cell: it is reported if it is never awaited, or its error never looked at."""
        watch = scope.watch
        if scope.stopped is not None:
            scope.stopped()  # looks: where the call is made counts, also if an asyncio task of its own awaits it
        token = watch.token()
        coroutine = self._watched_submit(scope, token, args, kwargs)
        coroutine.__qualname__ = self.name + "(...)"  # type: ignore[attr-defined]  # `flyte_nb.kernel.cells.unawaited` knows it by that
        watch.made(self, coroutine, token, sys._getframe(2))  # noqa: SLF001 - Python's name for the caller's frame
        return coroutine

    async def _watched_submit(self, scope: CallScope, token: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        watch = scope.watch
        made = watch.begun(token)
        if scope.stopped is not None:  # as are thousands of its siblings
            await refuse_if_stopped(scope)
        try:
            return await self._submit(args, kwargs)
        except Exception as exc:
            watch.failed(exc, made)
            raise

    async def _submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        # Read again: group, custom context and run are those in force when the coroutine first runs.
        context = current()
        if context is None:
            return await self.aio(*args, **kwargs)
        if context.trace:
            raise inside_trace(self, context)
        if context.scope.stopped is not None:
            await refuse_if_stopped(context.scope)
        if context.gateway.takes_rows and not kwargs:
            bursts, loop = context.scope.bursts, asyncio.get_running_loop()
            burst = bursts.get((self, context, loop))
            if burst is None:
                if not context.in_task or goes_on(context, loop, AHEAD):
                    bursts[self, context, loop] = Burst(context, self, loop)
            elif (call := burst.call(args)) is not None:
                return await call.wait(context)
        if context.scope.bursts:
            hand_over_before(context.scope.bursts, asyncio.get_running_loop())
        return await context.gateway.wait(prepare(context, self, args, kwargs))

    @overload
    def aio(self: Task[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    @overload
    def aio(self: Task[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]: ...  # type: ignore[overload-overlap]
    @overload
    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    async def aio(  # type: ignore[misc]
        self, *args: Any, **kwargs: Any
    ) -> Any:
        """Call the task from async code, be it ``def`` or ``async def``.

        Example:
            >>> await asyncio.gather(*(sync_task.aio(i) for i in range(5)))
        """
        context = current()
        if context is not None:
            return await self._submit(args, kwargs)
        if self.is_async:
            return await self.func(*args, **kwargs)  # type: ignore[misc]
        return await asyncio.to_thread(self.func, *args, **kwargs)

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself, in this process: no action, no record."""
        return self.func(*args, **kwargs)

    # -- facts ----------------------------------------------------------------------------------------------------

    def code_version(self) -> str:
        """Hash of all that decides what the task does (`flyte_nb.core.values.code_hash.code_version`), as of now."""
        return self._code_version or code_version(self.func)

    def cache_version(self) -> str:
        """The version under which its results are kept, as of now: an edited helper is another version.

        Raises:
            Exception: What a `CachePolicy` of the user's raises.
        """
        if self._cache_version:
            return self._cache_version
        image = self.config.image
        return self.config.cache.get_version(VersionParameters(self.func, image, code_version=self._code_version))

    def read_state(self) -> bytes:
        """A hash of what its code reads now, where its results are kept under a version that is computed from its code."""
        if not self.config.cache.follows_code():
            return b""
        return state_hash(self.func, patched.patches(patched.owners(functions_used(self.func))))

    def held_state(self) -> bytes:
        """A hash of what the function holds as of now, if it is a partial or an object; empty for a function.

        Raises:
            Exception: It cannot be hashed.
        """
        return content_hash(self.func) if callables.holds_state(self.func) else b""

    @property
    def short_name(self) -> str:
        """What views call it: ``short_name=`` of the decorator, else the function's name."""
        return self.config.short_name or self.name.rpartition(".")[2]

    native_interface: Interface = _attribute("interface", "Inputs and outputs.")
    cache: Cache = _attribute("config.cache", "Its cache policy.")
    retries: RetryStrategy = _attribute("config.retries", "Its retry policy.")
    timeout: Timeout = _attribute("config.timeout", "Its time limits.")

    @property
    def parent_env_name(self) -> str:
        """Name of its environment."""
        return self._env.name if self._env is not None else self.name.rpartition(".")[0]

    @property
    def parent_env(self) -> Callable[[], Environment | None]:
        """A weak reference to its environment."""
        return weakref.ref(self._env) if self._env is not None else lambda: None

    @property
    def source_file(self) -> str | None:
        """File that defines it."""
        return inspect.getsourcefile(underlying(self.func))

    @property
    def json_schema(self) -> dict[str, Any]:
        """A JSON schema of its inputs."""
        return self.interface.json_schema()

    def __getattr__(self, name: str) -> Any:
        # The rest (resources, env_vars, report, queue, ...) are settings.
        if name.startswith("_") or name in {"config", "func"}:
            raise AttributeError(name)
        try:
            return getattr(self.config, name)
        except AttributeError:
            raise AttributeError(f"task {self.name} has no attribute {name!r}") from None

    def override(self, **changes: Any) -> Task[P, R_co]:
        """A copy of the task with other settings; the original is untouched.

        Args:
            **changes: Any of ``short_name resources cache retries timeout reusable env_vars secrets service_account
                max_inline_io_bytes pod_template queue interruptible entrypoint produces_artifacts links plugin_config label``.

        Raises:
            ValueError: ``name``, ``image``, ``docs`` or ``interface`` cannot be overridden.
            TypeError: An unknown setting.

        Example:
            >>> await train.override(retries=3)(data)
        """
        made = self.copies.made(changes)
        if made is not None:
            return made
        other: Task[P, R_co] = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = self.config.overridden(**changes)
        check_label(other.config.label, self.name, self.input_names)
        other.overrides = {**self.overrides, **changes}
        other.code_memo = None
        other.copies, other.copied, other._sent = Copies(self.copies), self.copied or self, None
        self.copies.add(other, changes)
        other.ignored_inputs = other.config.cache.ignored_inputs
        if other.config.cache is not self.config.cache:
            other._cache_version = ""
        return other

    def became(self, new: Task[P, R_co]) -> None:
        """Become another task of the same name, if an edited module was read again: who imported this one by name has that.

        The same is done to functions and classes by IPython's ``%autoreload``. A task that a notebook defines again, or that
        the same reading of a module defines twice, stays what it was.
        """
        module, again = getattr(self, "__module__", None), self._reading is not new._reading
        if not again or self._reading is None or new._reading is None or module == "__main__":
            return
        names = (module, getattr(self, "__qualname__", ""))
        if names != (getattr(new, "__module__", None), getattr(new, "__qualname__", "")) or "<locals>" in names[1]:
            return
        for each in (self, *self.copies):
            changed = new.override(**each.overrides) if each.overrides else new
            each.__dict__.update({**changed.__dict__, "copies": each.copies, "code_memo": None, "_sent": None})
            new.copies.add(each, {})  # it follows the next reading, too

    # -- travelling -----------------------------------------------------------------------------------------------

    @property
    def as_sent(self) -> Task[P, R_co]:
        """The task that workers are sent for it: itself, or one that they cannot tell from it, whose code they may have."""
        if self.copied is None:
            return self
        if self._sent is None:
            self._sent = self.copied.copies.as_sent(self, self.copied)
        return self._sent

    def __get__(self, instance: object, owner: type | None = None) -> Task[P, R_co]:
        # What has it counts as a function where functions are described: `help(task)` shows signature and docstring.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        state = {k: v for k, v in self.__dict__.items() if k in _TRAVELS}
        state["_code_version"] = self.code_version()
        if self.config.cache.is_enabled():
            # A policy that fails is reported where the task is called.
            with contextlib.suppress(Exception):
                state["_cache_version"] = self.cache_version()
        return (_blank, (type(self),), state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.overrides = {}
        self.classes = being_loaded()
        self.code_memo = self._reading = self.copied = self._sent = None
        self.copies = Copies()
        self._dress()

    def __repr__(self) -> str:
        return f"<Task {self.name}{'' if self.is_async else ' (sync)'}>"


AsyncFunctionTaskTemplate = Task


def _refuse_or_warn(task: Task[..., Any], context: Context) -> None:
    """A sync task is called plainly in an async one, which blocks that: an error under strict rules, else one warning."""
    if context.run.strict_sync:
        raise errors.SyncTaskCallInAsyncContextError(
            f"the sync task {task.name} was called plainly inside the async task {context.task}, which blocks it. "
            f"Write `await {task.short_name}.aio(...)`."
        )
    if not context.scope.attachments.get("warned_sync"):
        context.scope.attachments["warned_sync"] = True
        warnings.warn(
            f"the sync task {task.name} was called plainly inside the async task {context.task} and blocks it until it "
            f"is done; Flyte refuses this. Write `await {task.short_name}.aio(...)`.",
            stacklevel=3,
        )


_TRAVELS = frozenset(
    {"func", "name", "config", "is_async", "interface", "identity", "ignored_inputs", "_env", "_code_version", "_cache_version"}
)  # fmt: skip


CALLS.update(vars(Task)[name].__code__ for name in ("aio", "_submit", "_watched_submit"))


def _blank(cls: type[Task[..., Any]]) -> Task[..., Any]:
    return object.__new__(cls)


def inside_trace(task: Task[..., Any], context: Context) -> errors.TraceDoesNotAllowNestedTasksError:
    """The error of a task that a ``@flyte.trace`` function calls."""
    return errors.TraceDoesNotAllowNestedTasksError(
        f"{task.name} was called inside a @flyte.trace function of {context.task}: a trace cannot start actions. "
        f"Call it from the task itself, or use {task.short_name}.forward(...) to run it in place."
    )
