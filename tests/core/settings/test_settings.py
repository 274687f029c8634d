"""Retries, timeouts, resources, warm workers, secrets, images, schedules: construct, validate, mean something."""

from __future__ import annotations

import datetime as dt
import logging
import pathlib
import pickle
from datetime import timedelta
from typing import Any

import pytest

from flyte_nb import unsupported
from flyte_nb.app.environment import AppEnvironment, Scaling
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.settings import notices
from flyte_nb.core.settings.config import Link, TaskConfig
from flyte_nb.core.settings.image import Image, PodTemplate
from flyte_nb.core.settings.resources import AMD_GPU, GPU, TPU, Device, Resources
from flyte_nb.core.settings.retry import Backoff, RetryStrategy, Timeout
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.settings.secret import Secret
from flyte_nb.core.settings.triggers import Cron, FixedRate, Trigger, TriggerTime
from flyte_nb.core.tasks.task_environment import TaskEnvironment
from flyte_nb.errors import OutOfScopeError
from flyte_nb.notify import Email, Slack

S = timedelta(seconds=1)

# -- Retries and timeouts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "seconds"),
    [(0, 1), (1, 2), (3, 8), (4, 10), (100_000, 10)],
    ids=["first", "second", "fourth", "cap", "overflow"],
)
def test_backoff_grows_to_its_cap(n: int, seconds: int) -> None:
    """``base * factor**n``, and the cap where that is too large to compute."""
    assert seconds * S == Backoff(base=S, factor=2, cap=10 * S).compute_delay(n)


def test_backoff_without_factor_is_constant() -> None:
    """No cap is needed."""
    assert [2 * S] * 3 == [Backoff(2 * S).compute_delay(n) for n in range(3)]


@pytest.mark.parametrize(
    "given",
    [(-S,), (5,), (S, 0.5, S), (S, float("nan"), S), (S, float("inf"), S), (S, "2", S), (S, 2), (S, 1, -S), (S, 1, 5)],
    ids=["negative", "number", "shrinks", "nan", "inf", "text", "no cap", "negative cap", "cap number"],
)
def test_backoff_refuses(given: tuple[Any, ...]) -> None:
    """Every bad value is a ValueError."""
    with pytest.raises(ValueError, match="Backoff"):
        Backoff(*given)


def test_retries_are_a_number_or_a_strategy() -> None:
    """A number is a count without backoff."""
    strategy = RetryStrategy(2, Backoff(S, 2, 9 * S))

    assert RetryStrategy(3) == RetryStrategy.of(3)
    assert strategy is RetryStrategy.of(strategy)
    assert RetryStrategy(0) == RetryStrategy.of(None) == RetryStrategy.of(0)
    assert (3, 2.0) == (strategy.max_attempts, strategy.delay_before(1))
    assert RetryStrategy(5).delay_before(3) == 0.0


@pytest.mark.parametrize("count", [-1, 1.5, "3", True, [1]], ids=repr)
def test_retries_refuse(count: Any) -> None:
    """Every bad value is a ValueError that shows it."""
    with pytest.raises(ValueError, match="retries must be a whole number"):
        RetryStrategy.of(count)


@pytest.mark.parametrize(
    ("given", "runtime"),
    [(5, 5.0), (2.5, 2.5), (3 * S, 3.0), (Timeout(4), 4.0), (0, None), (None, None), (0 * S, None)],
    ids=repr,
)
def test_timeout_is_a_runtime_per_attempt(given: Any, runtime: float | None) -> None:
    """Seconds or a timedelta; nothing and zero mean no limit."""
    limits = Timeout.of(given)

    assert (runtime, None, None) == (limits.runtime_s, limits.queued_s, limits.deadline_s)
    assert bool(limits) is (runtime is not None)


def test_timeout_has_three_limits_each_a_timedelta_once_resolved() -> None:
    """What the controller reads has one form."""
    limits = Timeout.of(Timeout(max_runtime=1, max_queued_time=0, deadline=timedelta(minutes=1)))

    assert Timeout(S, None, 60 * S) == limits
    assert (1.0, None, 60.0) == (limits.runtime_s, limits.queued_s, limits.deadline_s)


@pytest.mark.parametrize("value", ["3", -1, float("nan"), [1], False], ids=repr)
def test_timeout_refuses(value: Any) -> None:
    """Every bad value is a ValueError."""
    with pytest.raises(ValueError, match="timeout"):
        Timeout.of(value)
    with pytest.raises(ValueError, match="deadline"):
        Timeout(deadline=value)


# -- Resources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "cores"), [(2, 2.0), (0.5, 0.5), ("500m", 0.5), ("2", 2.0), ((1, "4"), 1.0), (None, None)], ids=repr
)
def test_cores_are_what_is_requested(given: Any, cores: float | None) -> None:
    """A number, Kubernetes' notation, or (request, limit)."""
    assert cores == Resources(cpu=given).cores


@pytest.mark.parametrize(
    ("given", "size"),
    [("1Gi", 2**30), ("500Mi", 500 * 2**20), ("2G", 2 * 10**9), ("1GB", 10**9), (("1Gi", "2Gi"), 2**31), (None, None)],
    ids=repr,
)
def test_memory_is_the_limit(given: Any, size: int | None) -> None:
    """An attempt may use what the limit says."""
    assert size == Resources(memory=given).memory_bytes


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ("T4:1", Device(1, "GPU", "T4")),
        ("A100 80G:2", Device(2, "GPU", "A100 80G")),
        ("Trn1:4", Device(4, "NEURON", "Trn1")),
        ("MI300X:1", Device(1, "AMD_GPU", "MI300X")),
        ("AppleSilicon", Device(1, "APPLE_SILICON", "AppleSilicon")),
        (2, Device(2, "GPU")),
        (0, None),
        (None, None),
        (GPU("A100", 1, "1g.5gb"), Device(1, "GPU", "A100", "1g.5gb")),
        (TPU("V5E", "2x2"), Device(1, "TPU", "V5E", "2x2")),
        (AMD_GPU("MI210"), Device(1, "AMD_GPU", "MI210")),
    ],
    ids=repr,
)
def test_accelerator_in_each_form(given: Any, device: Device | None) -> None:
    """A text, a number or a Device."""
    resources = Resources(gpu=given)

    assert device == resources.get_device()
    assert (device.quantity if device else 0) == resources.gpus


@pytest.mark.parametrize(
    "given",
    [
        {"cpu": -1}, {"cpu": (1, 2, 3)}, {"cpu": "many"}, {"cpu": [1]}, {"memory": 1024}, {"memory": ("1Gi",)},
        {"memory": "lots"}, {"gpu": "T4"}, {"gpu": "T4:0"}, {"gpu": -1}, {"gpu": 1.5}, {"disk": 5}, {"shm": 5},
    ],
    ids=repr,
)  # fmt: skip
def test_resources_refuse(given: dict[str, Any]) -> None:
    """Every bad value is a ValueError."""
    with pytest.raises(ValueError, match="must"):
        Resources(**given)


def test_shared_memory_may_be_automatic() -> None:
    """The word "auto" leaves the size open."""
    assert ("", "1Gi", None) == tuple(Resources(shm=shm).get_shared_memory() for shm in ("auto", "1Gi", None))


def test_resources_show_what_is_given() -> None:
    """And nothing else."""
    assert repr(Resources(cpu=1, gpu="T4:1")) == "Resources(cpu=1, gpu='T4:1')"


# -- Warm workers, secrets, images, schedules --------------------------------------------------------------------------


def test_reuse_policy_has_least_and_most_replicas() -> None:
    """One number means exactly that many; the capacity counts concurrency."""
    policy = ReusePolicy(replicas=3, concurrency=4, idle_ttl=60)

    assert (3, 3, 12, 60 * S) == (policy.min_replicas, policy.max_replicas, policy.capacity, policy.idle_ttl)
    assert ((1, 2), 30 * S) == (ReusePolicy((1, 2)).replicas, ReusePolicy().get_scaledown_ttl())


@pytest.mark.parametrize(
    "given",
    [{"replicas": (2, 1)}, {"replicas": -1}, {"replicas": 1.5}, {"replicas": (1, 2, 3)}, {"idle_ttl": 29},
     {"scaledown_ttl": 5}, {"concurrency": 0}, {"scope": "team"}, {"idle_ttl": "1h"}],
    ids=repr,
)  # fmt: skip
def test_reuse_policy_refuses(given: dict[str, Any]) -> None:
    """Every bad value is a ValueError that names the setting."""
    with pytest.raises(ValueError, match=next(iter(given))):
        ReusePolicy(**given)


def test_secret_appears_under_its_key_in_upper_case() -> None:
    """Unless it is told otherwise."""
    assert Secret("api-key", "team").as_env_var == "TEAM_API_KEY"
    assert Secret("k", as_env_var="TOKEN").as_env_var == "TOKEN"
    assert Secret("k", mount=pathlib.Path("/etc/flyte/secrets")).as_env_var is None
    assert Secret("k").stable_hash() == Secret("k").stable_hash() != Secret("j").stable_hash()
    with pytest.raises(ValueError, match="as_env_var"):
        Secret("k", as_env_var="token")


def test_image_chain_gives_new_images_with_stable_names() -> None:
    """Each step leaves the one before as it was."""
    base = Image.from_debian_base(python_version=(3, 12), registry="r", name="n")
    more = (
        base.with_pip_packages("pandas", pre=True).with_apt_packages("git").with_env_vars({"A": "1"}).with_commands(["ls"])
        .with_requirements("r.txt").with_uv_project("pyproject.toml").with_source_folder(pathlib.Path("src"))
        .with_source_file(pathlib.Path("a.py")).with_workdir("/w").with_code_bundle().with_local_v2()
    )  # fmt: skip

    assert ((), 10) == (base.layers, len(more.layers))
    assert more.uri != base.uri
    assert more.uri == pickle.loads(pickle.dumps(more)).uri
    assert Image.from_base("python:3.12").uri == "python:3.12"
    assert Image.from_uv_script(__file__, name="x").name == Image.from_ref_name("x").name == "x"
    assert Image.from_dockerfile("Dockerfile", "r", "n").clone(name="m").name == "m"


def test_schedules_construct() -> None:
    """And say what they would do."""
    daily = Trigger.daily("at", name="nightly", inputs={"n": 1})

    assert "0 0 * * *" == daily.automation.expression  # type: ignore[union-attr]
    assert {"n": 1, "at": TriggerTime} == daily.inputs
    assert TriggerTime is pickle.loads(pickle.dumps(TriggerTime))
    assert str(Cron("0 9 * * *", "Europe/Berlin")) == "Cron Trigger: CRON_TZ=Europe/Berlin 0 9 * * *"
    assert "every 5 minutes" in str(FixedRate(5, dt.datetime(2030, 1, 1, tzinfo=dt.UTC)))
    assert len(Trigger("t", Cron("@daily"), description="d" * 300).description) == 255
    for bad in (lambda: Cron("often"), lambda: FixedRate(0), lambda: Trigger("")):
        with pytest.raises(ValueError):
            bad()


def test_notifications_construct() -> None:
    """Phases are those of the model."""
    assert (Phase.FAILED,) == Slack(on_phase=Phase.FAILED, webhook_url="x").on_phase
    assert ("a@b",) == Email(on_phase=(Phase.FAILED, Phase.SUCCEEDED), recipients=("a@b",)).recipients
    with pytest.raises(ValueError, match="phase"):
        Slack(on_phase=(), webhook_url="x")


def test_link_is_anything_with_a_name_and_an_address() -> None:
    """No base class is needed."""

    class Mine:
        name = "logs"

        def get_link(self, *args: Any, **kwargs: Any) -> str:
            return "http://x"

    assert isinstance(Mine(), Link)


# -- Notices -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_notices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nothing has been said yet, and no cluster is there."""
    monkeypatch.setattr(notices, "_uncounted", False)
    notices._logged.clear()
    yield
    notices._logged.clear()


def test_setting_without_effect_is_mentioned_once_when_used(
    fresh_notices: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Not when it is constructed, and not for every task."""
    with caplog.at_level(logging.WARNING, logger="flyte"):
        configs = [TaskConfig(image=Image.from_base("x"), pod_template=PodTemplate(), queue="q") for _ in range(2)]
        assert [] == caplog.records
        for config in configs:
            notices.announce(config)
            notices.announce(config)

    words = sorted(record.getMessage().split(":")[1].strip() for record in caplog.records)
    assert ["image", "pod_template", "queue"] == words


def test_plain_task_is_not_commented_on(fresh_notices: None, caplog: pytest.LogCaptureFixture) -> None:
    """Settings that take effect need no notice."""
    config = TaskConfig(retries=RetryStrategy(1), env_vars={"A": "1"}, resources=Resources(memory="1Gi", gpu=1))
    notices.announce(config)

    assert [] == caplog.records


# -- Out of scope ------------------------------------------------------------------------------------------------------


async def test_refusal_is_one_sentence_both_ways() -> None:
    """Called or awaited, it says what it does not do."""
    with pytest.raises(OutOfScopeError, match=r"flyte\.serve: apps are not served here"):
        unsupported.serve(object())
    with pytest.raises(NotImplementedError, match="no deployed tasks"):
        await unsupported.RemoteTask.get.aio("env.task")
    with pytest.raises(OutOfScopeError, match="no containers are started"):
        unsupported.ContainerTask("c", image="i", command=["ls"], inputs={}).override(retries=1)(x=1)


async def test_deploy_at_the_end_of_a_program_does_no_harm(
    fresh_notices: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and names what was asked for."""
    env = TaskEnvironment("dep")
    with caplog.at_level(logging.WARNING, logger="flyte"):
        first, second = unsupported.deploy(env, version="v1")[0], (await unsupported.deploy.aio(env))[0]

    assert env is first.envs["dep"] is second.envs["dep"]
    assert ["deploy() does nothing here"] == [r.getMessage().partition(":")[0] for r in caplog.records]
    assert "dep" in first.summary_repr()
    assert [[("environment", "dep"), ("deployed", "no")]] == first.table_repr()
    with pytest.raises(TypeError, match="takes environments"):
        unsupported.deploy(3)  # type: ignore[arg-type]


def test_build_gives_names_of_images_that_do_not_exist(fresh_notices: None) -> None:
    """So a program that prints them goes on."""
    assert unsupported.build(Image.from_base("python:3.12")).uri == "python:3.12"
    assert {"e": "auto"} == unsupported.build_images(TaskEnvironment("e")).image_lookup


def test_app_constructs_and_has_no_endpoint() -> None:
    """A file that defines an app beside its tasks imports."""
    app = AppEnvironment("app", image="auto", port=8000, scaling=Scaling(replicas=(0, 2)))

    @app.server
    def main() -> int:
        return 1

    assert main() == 1
    with pytest.raises(OutOfScopeError, match="'app' has no endpoint"):
        _ = app.endpoint
