"""Task environments: ``@env.task`` makes a task of a function. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flyte_nb.core.settings.cache import Cache, CacheRequest
from flyte_nb.core.settings.config import (
    MAX_INLINE_IO_BYTES,
    Documentation,
    Link,
    TaskConfig,
    as_tuple,
    checked_buffer,
    checked_bytes,
)
from flyte_nb.core.settings.image import PodTemplate
from flyte_nb.core.settings.retry import RetryStrategy, Timeout, TimeoutType
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.settings.validate import names_options, suggestion
from flyte_nb.core.tasks import callables
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.tasks.task import Task
from flyte_nb.errors import OutOfScopeError

if TYPE_CHECKING:  # see `TaskConfig`
    from flyte_nb.core.settings.triggers import Trigger

P = ParamSpec("P")
R = TypeVar("R")
#: Kinds of tasks beside the plain one: which functions make one, and its class. Added to by the rooms that have them.
KINDS: list[tuple[Callable[[Any], bool], type[Task[..., Any]]]] = []


@names_options
@dataclass(eq=False)
class TaskEnvironment(Environment):
    """Where tasks are defined: ``@env.task`` makes one.

    Args:
        name: In snake_case or kebab-case. A task's full name is ``<env>.<function>``.
        cache: Whether results are kept, unless a task says otherwise.
        reusable: Keep processes warm between actions.
        plugin_config: No effect here.
        queue: No effect here.

    Further settings are those of `Environment`. A second environment of the same name is allowed: re-running a cell makes
    one. Redefining a function replaces the task.

    Raises:
        ValueError: The name is not of that form, or ``cache`` is no known word.
        TypeError: A setting is of a wrong type.
    """

    cache: CacheRequest = "disable"
    reusable: ReusePolicy | None = None
    plugin_config: Any = None
    queue: str | None = None
    _tasks: dict[str, Task[..., Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect("reusable", self.reusable, ReusePolicy)
        self._expect("cache", self.cache, (str, Cache))
        Cache.of(self.cache)

    @property
    def tasks(self) -> dict[str, Task[..., Any]]:
        """The tasks defined so far, by full name. Empty on a worker: a task travels without its neighbours."""
        return self._tasks

    @overload
    def task(self, _func: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self, _func: None = None, /, *, short_name: str | None = None, cache: CacheRequest | None = None,
        retries: int | RetryStrategy = 0, timeout: TimeoutType = 0, docs: Documentation | str | None = None,
        pod_template: str | PodTemplate | None = None, report: bool = False, interruptible: bool | None = None,
        max_inline_io_bytes: int = MAX_INLINE_IO_BYTES, queue: str | None = None, service_account: str | None = None,
        triggers: tuple[Trigger, ...] | Trigger = (), links: tuple[Link, ...] | Link = (), task_resolver: Any = None,
        entrypoint: bool = False, produces_artifacts: bool = False, buffer: int | None = None, label: str | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...  # fmt: skip

    def task(self, _func: Callable[..., Any] | None = None, /, **given: Any) -> Any:
        """Make a task of a function, ``def`` or ``async def``: ``@env.task`` or ``@env.task(retries=3)``.

        Args:
            _func: The function, if the decorator is bare; a `functools.partial` or an object with ``__call__`` will do.
            **given: The keywords below.
            short_name: Name in views, the function's by default.
            cache: Whether results are kept: "auto", "override", "disable" or a `Cache`; the environment's by default.
            retries: Further attempts after a failure, a number or a `RetryStrategy`.
            timeout: Seconds or a timedelta per attempt, or a `Timeout`; 0 for no limit.
            docs: Text for people.
            pod_template: No effect here.
            report: Whether it makes a report.
            interruptible: No effect here.
            max_inline_io_bytes: Largest inputs, and outputs, in bytes; 10 MiB by default.
            queue: No effect here.
            service_account: No effect here.
            triggers: No effect here: nothing runs on a schedule.
            links: Links shown beside its actions.
            task_resolver: No effect here.
            entrypoint: No effect here.
            produces_artifacts: No effect here.
            buffer: Of a task that yields: how many items it may be ahead of its consumer.
            label: What views call its calls, with names of inputs in braces: "{depth}/{fold}", "{params[lr]:.0e}"; its name
                and arguments by default.

        Returns:
            The task, or (without a function) what makes one of the function it decorates.

        Raises:
            ValueError: The function takes ``*args`` or ``**kwargs``; a value is out of range; the environment is warm with
                a concurrency above 1 and the function is not async.
            TypeError: There is no such setting, or it is of a wrong type, or the result is a tuple of one.
        """
        _check_keywords(given)
        if _func is not None:
            return self._make(_func, given)
        return lambda func: self._make(func, given)

    def _make(self, func: Any, given: dict[str, Any]) -> Any:
        callables.check(func)
        name = callables.name_of(func)
        reuse = self.reusable
        if reuse is not None and reuse.concurrency > 1 and not callables.overlaps(func):
            raise ValueError(
                f"Task {name!r} is not async, but environment {self.name!r} has a concurrency of "
                f"{reuse.concurrency}: only async tasks can share a process. Write 'async def', or set concurrency=1."
            )
        config = self._config(name, given)
        kind = next((kind for makes, kind in KINDS if makes(func)), Task)
        if config.buffer and not kind.is_stream:
            raise ValueError(f"Task {name!r} has a buffer, which is for tasks that yield: it has no `yield`.")
        made: Task[..., Any] = kind(func=func, name=f"{self.name}.{name}", env=self, config=config)
        REGISTRY.add(made)
        self._tasks[made.name] = made
        return made

    def _config(self, function_name: str, given: Mapping[str, Any]) -> TaskConfig:
        """Configuration of a task: what its decorator gives (None means "not given"), else what the environment has.

        Raises:
            ValueError: A value is out of range, or does not go with a warm environment.
            TypeError: A value is of a wrong type.
        """

        def choose(name: str, inherited: Any) -> Any:
            value = given.get(name)
            return inherited if value is None else value

        reusable = self.reusable
        account = given.get("service_account")
        if reusable is not None and given.get("pod_template") is not None:
            raise ValueError(
                f"Task {function_name!r} has a pod_template, but environment {self.name!r} is reusable: its processes are "
                "shared by tasks. Set the pod_template on the environment."
            )
        if reusable is not None and account is not None and account != self.service_account:
            raise ValueError(
                f"Task {function_name!r} has service account {account!r}, but environment {self.name!r} is reusable: its "
                "processes are shared by tasks. Set the service_account on the environment."
            )
        return TaskConfig(
            short_name=given.get("short_name") or function_name,
            cache=Cache.of(choose("cache", self.cache)),
            retries=RetryStrategy.of(given.get("retries")),
            timeout=Timeout.of(given.get("timeout")),
            docs=given.get("docs"),
            pod_template=choose("pod_template", self.pod_template),
            report=bool(given.get("report")),
            interruptible=bool(choose("interruptible", self.interruptible)),
            max_inline_io_bytes=checked_bytes(choose("max_inline_io_bytes", MAX_INLINE_IO_BYTES)),
            queue=choose("queue", self.queue),
            service_account=choose("service_account", self.service_account),
            triggers=as_tuple(given.get("triggers")),
            links=as_tuple(given.get("links")),
            task_resolver=given.get("task_resolver"),
            entrypoint=bool(given.get("entrypoint")),
            produces_artifacts=bool(given.get("produces_artifacts")),
            buffer=checked_buffer(given.get("buffer")),
            label=choose("label", ""),
            resources=self.resources,
            reusable=reusable,
            env_vars=self.env_vars,
            secrets=self.secrets,
            plugin_config=self.plugin_config,
            image=self.image,
        )

    @classmethod
    def from_task(
        cls, name: str, *tasks: Task[..., Any], depends_on: list[Environment] | None = None
    ) -> TaskEnvironment:
        """An environment around tasks that exist. The tasks keep their names and settings.

        Args:
            name: Its name.
            tasks: The tasks.
            depends_on: Environments to be deployed with it.
        """
        env = cls(name=name, depends_on=list(depends_on or ()))
        images = {getattr(task, "image", None) for task in tasks} - {None}
        if len(images) == 1:
            env.image = images.pop()
        for task in tasks:
            env._tasks[task.name] = task
        return env

    @property
    def sandbox(self) -> Any:
        """Flyte's sandboxed tasks: out of scope.

        Raises:
            OutOfScopeError: Always.
        """
        raise OutOfScopeError(
            "env.sandbox is not part of flyte_nb: use env.task, which runs on the workers as they are."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tasks": {}, "plugin_config": None}

    def __repr__(self) -> str:
        return f"<TaskEnvironment {self.name}: {len(self._tasks)} tasks>"


#: Keywords of ``env.task(...)``.
_KEYWORDS = frozenset(
    {
        "short_name", "cache", "retries", "timeout", "docs", "pod_template", "report", "interruptible", "max_inline_io_bytes",
        "queue", "service_account", "triggers", "links", "task_resolver", "entrypoint", "produces_artifacts", "buffer",
        "label",
    }
)  # fmt: skip


def _check_keywords(given: dict[str, Any]) -> None:
    unknown = sorted(set(given) - _KEYWORDS)
    if unknown:
        raise TypeError(
            f"env.task() got an unexpected keyword argument {unknown[0]!r}. {suggestion(unknown[0], _KEYWORDS)}"
        )
