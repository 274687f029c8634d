"""Environments, and the configuration that tasks get from them."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import pytest

from flyte_nb.core.settings.cache import Cache
from flyte_nb.core.settings.config import MAX_INLINE_IO_BYTES, UNSET
from flyte_nb.core.settings.image import Image, PodTemplate
from flyte_nb.core.settings.resources import Resources
from flyte_nb.core.settings.retry import RetryStrategy, Timeout
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.settings.secret import Secret
from flyte_nb.core.settings.triggers import Trigger
from flyte_nb.core.settings.validate import MAX_DESCRIPTION
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.core.tasks.task import Task, TaskTemplate
from flyte_nb.core.tasks.task_environment import TaskEnvironment
from flyte_nb.errors import OutOfScopeError

WARM = ReusePolicy(replicas=2)


# -- The environment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "1a", "a_b", "a-b_c", "env2"])
def test_names_in_snake_or_kebab_case(name: str) -> None:
    """The name may be given by position."""
    assert TaskEnvironment(name).name == name


@pytest.mark.parametrize("name", ["", "Env", "a__b", "_a", "a-", "a b", "ä", None, 3], ids=repr)
def test_other_names_are_refused(name: Any) -> None:
    """In Flyte's words."""
    with pytest.raises(ValueError, match=f"Environment name '{name}' must be in snake_case or kebab-case format."):
        TaskEnvironment(name=name)


@pytest.mark.parametrize(
    "setting",
    [
        {"image": 3}, {"secrets": 3}, {"secrets": [3]}, {"depends_on": "env"}, {"depends_on": ["env"]}, {"resources": "1"},
        {"env_vars": ["A"]}, {"pod_template": 3}, {"reusable": "yes"}, {"cache": 3}, {"include": (3,)},
    ],
    ids=repr,
)  # fmt: skip
def test_setting_of_a_wrong_type_is_refused(setting: dict[str, Any]) -> None:
    """A TypeError names environment and setting."""
    with pytest.raises(TypeError, match=f"'e': .*{next(iter(setting))} must be"):
        TaskEnvironment("e", **setting)


def test_unknown_cache_word_is_refused_at_once() -> None:
    """Not when the first task is made."""
    with pytest.raises(ValueError, match="Invalid cache behavior"):
        TaskEnvironment("e", cache="sometimes")


def test_settings_that_fit_are_taken() -> None:
    """All of them, in all their forms."""
    other = TaskEnvironment("other")
    env = TaskEnvironment(
        "e", depends_on=[other], pod_template=PodTemplate(), description="d" * 300, secrets=["a", Secret("b")],
        env_vars={"A": "1"}, resources=Resources(cpu=1), interruptible=True, image=Image.from_base("x"), include=("a.py",),
        service_account="me", cache=Cache("auto"), reusable=WARM, plugin_config=object(), queue="q",
    )  # fmt: skip

    assert MAX_DESCRIPTION == len(env.description or "")
    assert repr(env) == "<TaskEnvironment e: 0 tasks>"


def test_dependencies_are_environments_and_not_itself() -> None:
    """They have no effect on calls."""
    env, other = TaskEnvironment("e"), TaskEnvironment("other")
    env.add_dependency(other, other)

    assert [other] == env.depends_on
    with pytest.raises(TypeError, match="Environment only"):
        env.add_dependency("other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="itself"):
        env.add_dependency(TaskEnvironment("e"))


def test_clone_has_the_settings_and_not_the_tasks() -> None:
    """None means "as here", except for reusable."""
    env = TaskEnvironment("e", env_vars={"A": "1"}, cache="auto", reusable=WARM, resources=Resources(cpu=1))

    @env.task
    async def f(x: int) -> int:
        return x

    clone = env.clone_with("c", resources=Resources(cpu=2), env_vars=None, cache="disable")
    cold = env.clone_with(name="d", reusable=None)

    assert isinstance(clone, TaskEnvironment)
    assert isinstance(cold, TaskEnvironment)
    assert ({"A": "1"}, 2, "disable", WARM) == (clone.env_vars, clone.resources.cpu, clone.cache, clone.reusable)  # type: ignore[union-attr]
    assert ({}, None) == (clone.tasks, cold.reusable)
    clone.add_dependency(cold)
    assert [] == env.depends_on
    with pytest.raises(TypeError, match="colour"):
        env.clone_with("c", colour="red")


def test_clone_may_decorate_in_one_expression() -> None:
    """As examples of Flyte's do."""
    env = TaskEnvironment("e", reusable=WARM)

    @env.clone_with(name="parent", reusable=None).task
    async def f() -> None: ...

    assert ("parent.f", None) == (f.name, f.reusable)


def test_second_environment_of_one_name_is_allowed() -> None:
    """Re-running a cell makes one."""
    assert TaskEnvironment("e") != TaskEnvironment("e")


def test_environment_from_tasks() -> None:
    """The tasks keep their names."""
    env = TaskEnvironment("e")

    @env.task
    async def f() -> None: ...

    assert {"e.f": f} == TaskEnvironment.from_task("all", f).tasks


def test_environment_travels_without_its_tasks() -> None:
    """A task does not drag its neighbours to the worker."""
    env = TaskEnvironment("e", depends_on=[TaskEnvironment("o")], env_vars={"A": "1"}, plugin_config=lambda: None)

    @env.task
    async def f(x: int) -> int:
        return x

    again = cloudpickle.loads(cloudpickle.dumps(env))

    assert ({}, [], {"A": "1"}, None) == (again.tasks, again.depends_on, again.env_vars, again.plugin_config)
    assert {"e.f": f} == env.tasks


def test_sandbox_is_out_of_scope() -> None:
    """It says so."""
    with pytest.raises(OutOfScopeError, match="sandbox"):
        _ = TaskEnvironment("e").sandbox


# -- The decorator -----------------------------------------------------------------------------------------------------


def test_bare_called_and_with_keywords() -> None:
    """Three ways to say the same, for async and sync functions."""
    env = TaskEnvironment("e")

    @env.task
    async def a(x: int) -> int:
        return x

    @env.task()
    def b(x: int) -> int:
        return x

    @env.task(retries=2, timeout=5, cache="auto", short_name="sea", docs="text", report=True, queue="q")
    async def c(x: int) -> int:
        return x

    assert ["e.a", "e.b", "e.c"] == list(env.tasks)
    assert all(isinstance(task, TaskTemplate) for task in (a, b, c))
    assert (RetryStrategy(2), 5.0, "auto", "sea") == (c.retries, c.timeout.runtime_s, c.cache.behavior, c.short_name)
    assert (RetryStrategy(0), Timeout(), "disable", "a") == (a.retries, a.timeout, a.cache.behavior, a.short_name)
    assert ("text", True, "q", MAX_INLINE_IO_BYTES) == (c.docs, c.report, c.queue, c.max_inline_io_bytes)
    assert {"x": (int, a.interface.inputs["x"][1])} == a.interface.inputs
    assert ("e", env) == (a.parent_env_name, a.parent_env())


def test_redefining_a_function_replaces_the_task() -> None:
    """The later definition wins."""
    env = TaskEnvironment("e")

    def define(n: int) -> Task[..., Any]:
        def f() -> int:
            return n

        return env.task(f)

    define(1)
    later = define(2)

    assert {"e.f": later} == env.tasks


def test_what_cannot_be_a_task_is_refused() -> None:
    """Each with the reason."""
    env: Any = TaskEnvironment("e")
    warm: Any = TaskEnvironment("w", reusable=ReusePolicy(concurrency=2))

    def stars(*args: int) -> None: ...
    def sync() -> None: ...
    def one() -> tuple[int]: ...  # type: ignore[empty-body]

    for decorate, error, message in [
        (lambda: env.task(stars), ValueError, "must have names"),
        (lambda: env.task(one), TypeError, "tuple of one"),
        (lambda: warm.task(sync), ValueError, "only async tasks can share a process"),
        (lambda: env.task(3), TypeError, "of a function"),
        (lambda: env.task(int), TypeError, "of a function"),
        (lambda: env.task(colour="red"), TypeError, "colour"),
        (lambda: env.task(retries=-1)(sync), ValueError, "retries"),
        (lambda: env.task(retries=1.5)(sync), ValueError, "retries"),
        (lambda: env.task(timeout="3")(sync), ValueError, "timeout"),
    ]:
        with pytest.raises(error, match=message):
            decorate()


def test_pod_template_and_other_account_do_not_go_with_a_warm_environment() -> None:
    """Its processes are shared by tasks."""
    env = TaskEnvironment("w", reusable=WARM, service_account="me")

    async def f() -> None: ...

    assert env.task(service_account="me")(f).service_account == "me"
    with pytest.raises(ValueError, match="pod_template"):
        env.task(pod_template="t")(f)
    with pytest.raises(ValueError, match="service account"):
        env.task(service_account="you")(f)


def test_environment_then_decorator_then_override() -> None:
    """The latest value replaces the earlier ones."""
    env = TaskEnvironment(
        "e", cache="auto", interruptible=True, queue="env", service_account="env", env_vars={"A": "1", "B": "2"}
    )

    @env.task
    async def plain() -> None: ...

    @env.task(cache="disable", interruptible=False, queue="task", service_account="task")
    async def own() -> None: ...

    other = own.override(cache="override", queue="call", env_vars={"A": "3"}, interruptible=True)

    def facts(task: Any) -> tuple[Any, ...]:
        return task.cache.behavior, task.interruptible, task.queue, task.service_account, task.env_vars

    assert ("auto", True, "env", "env", {"A": "1", "B": "2"}) == facts(plain)
    assert ("disable", False, "task", "task", {"A": "1", "B": "2"}) == facts(own)
    assert ("override", True, "call", "task", {"A": "3"}) == facts(other)
    assert own.name == other.name


# -- Override ----------------------------------------------------------------------------------------------------------


def test_override_resets_with_zero_and_keeps_with_none() -> None:
    """0 is a value, None is not."""
    env = TaskEnvironment("e")

    @env.task(retries=3, timeout=5, short_name="s")
    async def f() -> None: ...

    reset, kept = f.override(retries=0, timeout=0), f.override(retries=None, timeout=UNSET, short_name=None)

    assert (RetryStrategy(0), None) == (reset.retries, reset.timeout.runtime_s)
    assert (RetryStrategy(3), 5.0, "s") == (kept.retries, kept.timeout.runtime_s, kept.short_name)
    assert RetryStrategy(3) == f.retries


@pytest.mark.parametrize("name", ["name", "image", "docs", "interface"])
def test_what_makes_a_task_cannot_be_overridden(name: str) -> None:
    """In Flyte's words."""

    @TaskEnvironment("e").task
    async def f() -> None: ...

    with pytest.raises(ValueError, match=f"{name.capitalize()} cannot be overridden"):
        f.override(**{name: "x"})


def test_override_checks_its_values() -> None:
    """As the decorator does."""

    @TaskEnvironment("e").task
    async def f() -> None: ...

    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"colour": "red"}, TypeError), ({"resources": "1"}, TypeError), ({"reusable": 3}, TypeError),
        ({"retries": -1}, ValueError), ({"timeout": "x"}, ValueError), ({"cache": "x"}, ValueError),
        ({"max_inline_io_bytes": "x"}, TypeError),
    ]  # fmt: skip
    for given, error in cases:
        with pytest.raises(error):
            f.override(**given)


@pytest.mark.parametrize(
    "fixed",
    [{"resources": Resources(cpu=1)}, {"env_vars": {}}, {"secrets": "s"}, {"service_account": "me"}],
    ids=lambda f: next(iter(f)),
)
def test_fixed_settings_of_a_warm_task_need_reuse_off(fixed: dict[str, Any]) -> None:
    """They are fixed when a replica starts."""

    @TaskEnvironment("e", reusable=WARM).task
    async def f() -> None: ...

    with pytest.raises(ValueError, match=f'override {next(iter(fixed))} of a reusable task.*reusable="off"'):
        f.override(**fixed)
    with pytest.raises(ValueError, match="reusable"):
        f.override(reusable=ReusePolicy(3), **fixed)
    assert f.override(reusable="off", **fixed).reusable is None
    assert f.override(reusable=ReusePolicy(3), retries=1).reusable == ReusePolicy(3)


def test_configuration_travels_without_what_has_no_effect() -> None:
    """A pod specification may hold anything."""
    env = TaskEnvironment("e", plugin_config=lambda: None, pod_template=PodTemplate(pod_spec=lambda: None))

    @env.task(triggers=Trigger.daily(), task_resolver=lambda: None, retries=1)
    async def f() -> None: ...

    again = pickle.loads(pickle.dumps(f.config))

    assert (None, None, (), None) == (again.plugin_config, again.pod_template, again.triggers, again.task_resolver)
    assert f.config.retries == again.retries
    assert len(f.config.triggers) == 1


def test_base_environment_has_no_tasks() -> None:
    """It is a name with settings."""
    assert not hasattr(Environment("e"), "task")
