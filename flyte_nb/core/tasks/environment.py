"""Where tasks are defined, and the settings they share: `TaskEnvironment`. Runs in: everywhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from flyte_nb.core.settings.cache import Cache, CacheRequest
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES, TaskConfig
from flyte_nb.core.settings.documentation import MAX_DESCRIPTION, Documentation, Link
from flyte_nb.core.settings.image import Image
from flyte_nb.core.settings.pods import PodTemplate
from flyte_nb.core.settings.resources import Resources
from flyte_nb.core.settings.retry import RetryStrategy, TimeoutType
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.settings.secret import Secret, SecretRequest
from flyte_nb.core.settings.triggers import Trigger

if TYPE_CHECKING:
    from flyte_nb.core.tasks.task import Task

P = ParamSpec("P")
R = TypeVar("R")

#: snake_case or kebab-case.
_NAME = re.compile(r"^[a-z0-9]+([_-][a-z0-9]+)*$")


@dataclass
class Environment:
    """Settings under a name. `TaskEnvironment` is the one with tasks.

    Args:
        name: In snake_case or kebab-case.
        depends_on: Environments to be deployed with it. No effect here: any task may call any other.
        pod_template: No effect here.
        description: Text for people, cut at 255 characters.
        secrets: Names of secrets; here they are environment variables that the workers have.
        env_vars: Environment variables of the tasks.
        resources: What an attempt needs.
        interruptible: No effect here.
        image: No effect here: tasks run with the packages of the workers.
        include: Files to be deployed with it. No effect here.
        service_account: No effect here.

    Raises:
        ValueError: The name is not of that form.
        TypeError: A setting is of a wrong type.
    """

    name: str
    depends_on: list[Environment] = field(default_factory=list)
    pod_template: str | PodTemplate | None = None
    description: str | None = None
    secrets: SecretRequest | None = None
    env_vars: dict[str, str] | None = None
    resources: Resources | None = None
    interruptible: bool = False
    image: str | Image | None = "auto"
    include: tuple[str, ...] = field(default_factory=tuple)
    service_account: str | None = None

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(f"Environment name '{self.name}' must be in snake_case or kebab-case format.")
        self._expect("image", self.image, (str, Image))
        self._expect("resources", self.resources, Resources)
        self._expect("env_vars", self.env_vars, dict)
        self._expect("pod_template", self.pod_template, (str, PodTemplate))
        self._expect("secrets", self.secrets, (str, Secret, list))
        self._expect("depends_on", self.depends_on, list)
        for secret in self.secrets if isinstance(self.secrets, list) else ():
            self._expect("each of secrets", secret, (str, Secret))
        for environment in self.depends_on:
            self._expect("each of depends_on", environment, Environment)
        include: object = self.include
        self.include = (include,) if isinstance(include, str) else tuple(self.include)
        for path in self.include:
            self._expect("each of include", path, str)
        if self.description and len(self.description) > MAX_DESCRIPTION:
            self.description = self.description[: MAX_DESCRIPTION - 3] + "..."

    def _expect(self, setting: str, value: object, types: type | tuple[type, ...]) -> None:
        if value is None or isinstance(value, types):
            return
        wanted = " or ".join(t.__name__ for t in (types if isinstance(types, tuple) else (types,)))
        raise TypeError(
            f"Environment '{self.name}': {setting} must be a {wanted}, not {value!r} ({type(value).__name__})."
        )

    def add_dependency(self, *env: Environment) -> None:
        """Name environments to be deployed with this one. No effect on calls.

        Args:
            env: The environments.

        Raises:
            TypeError: One is no environment.
            ValueError: One is this one.
        """
        for each in env:
            if not isinstance(each, Environment):
                raise TypeError(f"Environment '{self.name}' can depend on an Environment only, not on {each!r}.")
            if each.name == self.name:
                raise ValueError(f"Environment '{self.name}' cannot depend on itself.")
            if all(each is not known for known in self.depends_on):
                self.depends_on.append(each)

    def clone_with(self, name: str, **changes: Any) -> Self:
        """Another environment with these settings, except those given.

        Args:
            name: Its name.
            changes: Settings; None means "as here", except for ``reusable``, where it means none.

        Raises:
            TypeError: There is no such setting.
        """
        known = {f.name for f in fields(self) if f.init and f.name != "name"}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise TypeError(
                f"clone_with() got unexpected keyword arguments: {', '.join(unknown)}. It takes: {', '.join(sorted(known))}."
            )
        settings = {key: getattr(self, key) for key in known}
        # A list of one must not be the list of the other: add_dependency() changes it.
        settings["depends_on"] = list(self.depends_on)
        settings.update({key: value for key, value in changes.items() if value is not None or key == "reusable"})
        return type(self)(name=name, **settings)

    def __getstate__(self) -> dict[str, Any]:
        # Environments travel with each task: without their other tasks, and without what has no effect on a call.
        return {**self.__dict__, "depends_on": [], "pod_template": None}

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


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
        self,
        _func: None = None,
        /,
        *,
        short_name: str | None = None,
        cache: CacheRequest | None = None,
        retries: int | RetryStrategy = 0,
        timeout: TimeoutType = 0,
        docs: Documentation | str | None = None,
        pod_template: str | PodTemplate | None = None,
        report: bool = False,
        interruptible: bool | None = None,
        max_inline_io_bytes: int = MAX_INLINE_IO_BYTES,
        queue: str | None = None,
        service_account: str | None = None,
        triggers: tuple[Trigger, ...] | Trigger = (),
        links: tuple[Link, ...] | Link = (),
        task_resolver: Any = None,
        entrypoint: bool = False,
        produces_artifacts: bool = False,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, _func: Callable[..., Any] | None = None, /, **given: Any) -> Any:
        """Make a task of a function, ``def`` or ``async def``: ``@env.task`` or ``@env.task(retries=3)``.

        Args:
            _func: The function, if the decorator is bare.
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
        # At run time only: task.py imports much that a module which just names an environment does not need.
        from flyte_nb.core.tasks.task import Task

        if isinstance(func, type) or not callable(func):
            raise TypeError(f"@env.task makes a task of a function, not of {func!r}.")
        reuse = self.reusable
        if reuse is not None and reuse.concurrency > 1 and not inspect.iscoroutinefunction(func):
            raise ValueError(
                f"Task {func.__name__!r} is not async, but environment {self.name!r} has a concurrency of "
                f"{reuse.concurrency}: only async tasks can share a process. Write 'async def', or set concurrency=1."
            )
        config = TaskConfig.resolve(self, func.__name__, given)
        made: Task[..., Any] = Task(func=func, name=f"{self.name}.{func.__name__}", env=self, config=config)
        self._tasks[made.name] = made
        return made

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
        from flyte_nb.errors import OutOfScopeError

        raise OutOfScopeError(
            "env.sandbox is not part of flyte_nb: use env.task, which runs on the workers as they are."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tasks": {}, "plugin_config": None}

    def __repr__(self) -> str:
        return f"<TaskEnvironment {self.name}: {len(self._tasks)} tasks>"


_KEYWORDS = frozenset(
    {
        "short_name",
        "cache",
        "retries",
        "timeout",
        "docs",
        "pod_template",
        "report",
        "interruptible",
        "max_inline_io_bytes",
        "queue",
        "service_account",
        "triggers",
        "links",
        "task_resolver",
        "entrypoint",
        "produces_artifacts",
    }
)


def _check_keywords(given: dict[str, Any]) -> None:
    unknown = sorted(set(given) - _KEYWORDS)
    if unknown:
        raise TypeError(
            f"env.task() got an unexpected keyword argument {unknown[0]!r}. It takes: {', '.join(sorted(_KEYWORDS))}."
        )
