"""The import surface: names, submodules, and ``import flyte``."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flyte_nb as flyte

TOP_LEVEL = [
    "TaskEnvironment",
    "Environment",
    "TaskTemplate",
    "AsyncFunctionTaskTemplate",
    "Resources",
    "GPU",
    "TPU",
    "Neuron",
    "AMD_GPU",
    "HABANA_GAUDI",
    "APPLE_SILICON",
    "Device",
    "DeviceClass",
    "Cache",
    "CachePolicy",
    "CacheRequest",
    "RetryStrategy",
    "Backoff",
    "Timeout",
    "TimeoutType",
    "ReusePolicy",
    "Image",
    "ImageBuild",
    "Secret",
    "SecretRequest",
    "PodTemplate",
    "Documentation",
    "Link",
    "Trigger",
    "Cron",
    "FixedRate",
    "OnArtifact",
    "TriggerTime",
    "TriggeredArtifact",
    "Checkpoint",
    "BaseCheckpoint",
    "latest_checkpoint",
    "ConditionWebhook",
    "new_condition",
    "init",
    "init_from_config",
    "init_from_api_key",
    "init_in_cluster",
    "init_passthrough",
    "is_control_plane_available",
    "current_domain",
    "current_project",
    "run",
    "rerun",
    "with_runcontext",
    "ctx",
    "custom_context",
    "get_custom_context",
    "group",
    "map",
    "trace",
    "logger",
    "system_logger",
    "deploy",
    "build",
    "build_images",
    "serve",
    "with_servecontext",
    "run_python_script",
    "version",
    "__version__",
    "install",
    "install_as_flyte",
]
SUBMODULES = [
    "app",
    "config",
    "durable",
    "errors",
    "extras",
    "git",
    "io",
    "models",
    "notify",
    "prefetch",
    "remote",
    "report",
    "storage",
    "syncify",
    "types",
]


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_every_top_level_name_is_an_attribute(name):
    """Without a further import."""
    assert hasattr(flyte, name)
    assert name in flyte.__all__


def test_tab_offers_what_has_an_effect():
    """What is there for Flyte's programs only can be imported, and is not in the way."""
    offered = set(dir(flyte))
    assert offered >= {"TaskEnvironment", "run", "map", "last_run", "Resources", "progress"}
    assert offered.isdisjoint({"deploy", "serve", "Cron", "build", "init_in_cluster"})
    assert offered < set(flyte.__all__)


def test_lazy_names_are_those_that_type_checkers_see():
    """What `__getattr__` imports, what stands under TYPE_CHECKING and `__all__` agree, with the modules that have the names."""
    (block,) = [each for each in ast.parse(Path(flyte.__file__).read_text()).body if isinstance(each, ast.If)]
    imports = [each for each in block.body if isinstance(each, ast.ImportFrom)]
    shown = {alias.name: each.module for each in imports for alias in each.names}

    submodules = {name for name, module in shown.items() if module == "flyte_nb"}
    assert flyte._LAZY == {name: module for name, module in shown.items() if name not in submodules}
    assert set(flyte._LAZY_MODULES) - submodules == {"_cache", "cache", "errors"}  # `flyte.errors` is imported at once
    assert shown.keys() <= set(flyte.__all__)


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_submodule_is_reachable_as_attribute_and_by_import(name):
    """`flyte.io`, `import flyte_nb.io` and `from flyte_nb.io import File` give the same; its public names exist."""
    import importlib

    module = importlib.import_module(f"flyte_nb.{name}")

    assert module is getattr(flyte, name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


def python(code: str, *, timeout: float = 60) -> str:
    """Run a program in a fresh process; its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ALIASED = """
    import flyte_nb
    flyte_nb.install_as_flyte()
    import flyte, flyte.errors, flyte.io as fio
    import flyte.remote, flyte.report
    from flyte import Cache, Resources
    from flyte.io import File
    from flyte._cache import CachePolicy, FunctionBodyPolicy
    from flyte._image import DIST_FOLDER
    from flyte.syncify import syncify
"""


def test_import_flyte_means_this_package_after_install():
    """One module under two names: no class exists twice, and private names that programs use are there."""
    code = ALIASED + (
        """
    assert flyte is flyte_nb and flyte.errors is flyte_nb.errors and fio.File is flyte_nb.io.File is File
    flyte_nb.install()
    try:
        import flyte.core
    except ModuleNotFoundError as exc:
        print(exc.name)
    """
    )

    assert "flyte.core" == python(code)


def test_the_real_flyte_is_not_replaced_once_imported():
    """install_as_flyte refuses, and says to restart."""
    code = """
    import sys, types
    sys.modules["flyte"] = types.ModuleType("flyte")
    import flyte_nb
    try:
        flyte_nb.install_as_flyte()
    except RuntimeError as exc:
        print(exc)
    """

    assert "Restart the kernel" in python(code)


@pytest.mark.cluster
def test_the_alias_holds_on_workers():
    """Functions pickled by value that import flyte in their body, or whose globals hold it, run in worker processes."""
    code = ALIASED + (
        """
    env = flyte.TaskEnvironment("aliased")

    @env.task
    async def child(x: int) -> str:
        import os, flyte
        from flyte.errors import RuntimeUserError
        from flyte.io import Dir
        import flyte.report
        await flyte.report.log.aio("<p>here</p>")
        return f"{RuntimeUserError is flyte.errors.RuntimeUserError} {Dir.__module__} {flyte.ctx().mode}"

    @env.task
    async def uses_globals(x: int) -> str:
        return f"{flyte.ctx().action.run_name is not None} {fio.File is File} {await child(x)}"

    if __name__ == "__main__":
        print(flyte.run(uses_globals, 1).outputs()[0])
        flyte.shutdown()
    """
    )

    assert "True True True flyte_nb.io.dir remote" == python(code)


@pytest.mark.cluster
def test_workers_know_the_alias_without_being_asked(cluster):
    """Where the real SDK is not installed, `import flyte` in a body works even if the notebook installed no alias."""
    env = flyte.TaskEnvironment("not-asked")

    @env.task
    async def body() -> str:
        import flyte.durable  # type: ignore[import-not-found]

        return flyte.durable.__name__

    assert "flyte_nb.durable" == flyte.with_runcontext(mode="remote").run(body).outputs()[0]


def test_init_and_its_relatives_take_what_flyte_takes(tmp_path):
    """All keywords, both forms, no cluster is started; projects and domains are remembered."""
    code = """
    import asyncio, flyte_nb as flyte
    assert flyte.current_domain() == "development"
    flyte.init(endpoint="dns:///x", project="p", domain="d", org="o", root_dir=".", headless=True, image_builder="local")
    assert (flyte.current_project(), flyte.current_domain()) == ("p", "d")
    flyte.init_from_config()
    flyte.init_from_config(root_dir=".", project="q", images=("a=b",), log_level="DEBUG")
    asyncio.run(flyte.init_from_config.aio(None))
    flyte.init_from_api_key("key", domain="e")
    flyte.init_in_cluster()
    assert (flyte.current_project(), flyte.current_domain()) == ("q", "e")
    assert flyte.system_logger.level == 10
    env = flyte.TaskEnvironment("x")

    @env.task
    async def where() -> tuple[str, str]:
        return flyte.ctx().action.project, flyte.ctx().action.domain

    print(tuple(flyte.with_runcontext("local").run(where).outputs()), "distributed" in __import__("sys").modules)
    """

    assert "('q', 'e') False" == python(code)


def test_a_configuration_file_is_read(tmp_path):
    """Project and domain of a YAML file; an explicit path that is not there is an error with Flyte's code."""
    path = tmp_path / "config.yaml"
    path.write_text("admin:\n  endpoint: dns:///x\ntask:\n  domain: staging\n  project: 'mine'\n")
    code = f"""
    import flyte_nb as flyte
    flyte.init_from_config({str(path)!r})
    print(flyte.current_project(), flyte.current_domain())
    try:
        flyte.init_from_config({str(tmp_path / "nothing.yaml")!r})
    except flyte.errors.InitializationError as exc:
        print(exc.code)
    flyte.init_from_config(flyte.git.config_from_root())
    """

    assert "mine staging\nConfigFileNotFoundError" == python(code)


def test_out_of_scope_names_construct_and_say_what_they_do_not_do(caplog):
    """deploy and build return and log one sentence; serve, remote.Task and the like raise one."""
    from flyte_nb.core.settings import notices

    notices._logged.clear()
    env = flyte.TaskEnvironment("deployed", image=flyte.Image.from_debian_base().with_pip_packages("x"))
    flyte.deploy(env)
    asyncio.run(flyte.deploy.aio(env))
    flyte.build(flyte.Image.from_debian_base())
    flyte.app.AppEnvironment(name="app", scaling=flyte.app.Scaling(replicas=(0, 1)))
    flyte.Trigger.hourly("start")

    assert 1 == len([r for r in caplog.records if "deploy() does nothing here" in r.getMessage()])
    for refused in (
        flyte.serve,
        flyte.remote.Task.get,
        flyte.remote.upload_file,
        flyte.prefetch.hf_model,
        flyte.extras.ContainerTask("c", image="x"),
    ):
        with pytest.raises(flyte.errors.OutOfScopeError, match=r"\w"):
            refused("x")


def test_syncify_runs_async_functions_from_anywhere():
    """Functions, methods and generators; blocking and awaited; inside and outside of a running loop, nested too."""
    from flyte_nb.syncify import syncify

    @syncify
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    class Client:
        @syncify
        async def get(self, x: int) -> int:
            return inner(x) + await inner.aio(x)

        @syncify
        @classmethod
        async def make(cls) -> str:
            return cls.__name__

    @syncify
    async def numbers(n: int):
        for i in range(n):
            yield i

    async def from_a_loop() -> list[object]:
        return [
            inner(1),
            await inner.aio(1),
            Client().get(1),
            await Client().get.aio(1),
            [i async for i in numbers.aio(2)],
        ]

    assert [2, 2, 4, 4, [0, 1]] == asyncio.run(from_a_loop())
    assert (2, 4, "Client", [0, 1, 2]) == (inner(1), Client().get(1), Client.make(), list(numbers(3)))
    assert [0] == [next(iter(numbers(10**9)))]
    with pytest.raises(TypeError, match="async"):
        syncify(len)
