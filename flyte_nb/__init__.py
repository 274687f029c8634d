"""Flyte 2's asynchronous model on Dask, for Jupyter: ``await`` a task in a cell and it runs on the cluster.

``import flyte_nb as flyte`` gives the names of Flyte 2's SDK. Importing starts nothing and is fast: the cluster, IPython and
the views are imported when they are first needed.
"""

from __future__ import annotations

import importlib
from logging import Logger as _Logger
from typing import TYPE_CHECKING, Any

from flyte_nb import errors
from flyte_nb.core.attempts import logging as _logs
from flyte_nb.core.attempts.progress import progress, track
from flyte_nb.core.results import actions as _actions
from flyte_nb.core.results import compare as _compare
from flyte_nb.core.results import table as _table
from flyte_nb.core.runs import run_registry as _runs
from flyte_nb.core.runs.defaults import CLUSTER_OPTIONS as _CLUSTER_OPTIONS
from flyte_nb.core.runs.defaults import check_cluster_options as _check
from flyte_nb.core.runs.defaults import current_domain, current_project
from flyte_nb.core.runs.defaults import read_config as _read_config
from flyte_nb.core.runs.defaults import set_defaults as _set_defaults
from flyte_nb.core.runs.run import Run
from flyte_nb.core.runs.start import run, with_runcontext
from flyte_nb.core.settings.cache import Cache, CachePolicy, CacheRequest
from flyte_nb.core.settings.resources import (
    AMD_GPU,
    APPLE_SILICON,
    GPU,
    HABANA_GAUDI,
    TPU,
    Device,
    DeviceClass,
    Neuron,
    Resources,
)
from flyte_nb.core.settings.retry import Backoff, RetryStrategy, Timeout, TimeoutType
from flyte_nb.core.settings.reuse import ReusePolicy
from flyte_nb.core.steps.ctx import ctx
from flyte_nb.core.steps.ctx import provide as _provide_to_ctx
from flyte_nb.core.steps.trace import trace
from flyte_nb.core.streams.map_over import map_over as _map_over
from flyte_nb.core.streams.merge import merge
from flyte_nb.core.streams.stream import Stream
from flyte_nb.core.streams.stream_task import StreamTask as _StreamTask
from flyte_nb.core.streams.stream_task import yields as _yields
from flyte_nb.core.tasks.context import custom_context, get_custom_context, group
from flyte_nb.core.tasks.environment import Environment
from flyte_nb.core.tasks.map import map  # noqa: A004 - Flyte's name
from flyte_nb.core.tasks.map import over_streams_with as _over_streams_with
from flyte_nb.core.tasks.task import AsyncFunctionTaskTemplate, Task, TaskTemplate
from flyte_nb.core.tasks.task_environment import KINDS as _KINDS
from flyte_nb.core.tasks.task_environment import TaskEnvironment
from flyte_nb.core.values.aio import Dual as _Dual
from flyte_nb.import_alias import SUBMODULES as _SUBMODULES
from flyte_nb.import_alias import install_as_flyte

if TYPE_CHECKING:
    # As `_LAZY` and `_LAZY_MODULES`, for type checkers.
    from flyte_nb import (
        app,
        artifacts,
        config,
        durable,
        extras,
        git,
        io,
        models,
        notify,
        prefetch,
        remote,
        report,
        storage,
        syncify,
        testing,
        types,
    )
    from flyte_nb.core.runs.rerun import rerun
    from flyte_nb.core.runs.run_registry import last_run, runs
    from flyte_nb.core.settings.config import Documentation, Link
    from flyte_nb.core.settings.image import Image, PodTemplate
    from flyte_nb.core.settings.secret import Secret, SecretRequest
    from flyte_nb.core.settings.triggers import (
        ConditionWebhook,
        Cron,
        FixedRate,
        OnArtifact,
        Trigger,
        TriggeredArtifact,
        TriggerTime,
    )
    from flyte_nb.core.steps.conditions import new_condition
    from flyte_nb.core.steps.on_failure import on_failure
    from flyte_nb.io.checkpoint import BaseCheckpoint, Checkpoint, latest_checkpoint
    from flyte_nb.kernel.session import dask_client
    from flyte_nb.unsupported import (
        ImageBuild,
        build,
        build_images,
        deploy,
        load_interactive_ctx,
        load_plugin_config,
        run_python_script,
        serve,
        with_servecontext,
    )

__version__ = "0.1.0"

#: ``flyte_nb.install()`` is Flyte's shorter name for it.
install = install_as_flyte
logger: _Logger = _logs.logger
system_logger: _Logger = _logs.system_logger

#: Names that are imported when first used, by the module that has them.
_LAZY = {
    name: module
    for module, names in (
        ("flyte_nb.core.runs.rerun", ("rerun",)),
        ("flyte_nb.core.runs.run_registry", ("last_run", "runs")),
        ("flyte_nb.core.settings.config", ("Documentation", "Link")),
        ("flyte_nb.core.settings.image", ("Image", "PodTemplate")),
        ("flyte_nb.core.settings.secret", ("Secret", "SecretRequest")),
        (
            "flyte_nb.core.settings.triggers",
            ("ConditionWebhook", "Cron", "FixedRate", "OnArtifact", "Trigger", "TriggerTime", "TriggeredArtifact"),
        ),
        ("flyte_nb.core.steps.conditions", ("new_condition",)),
        ("flyte_nb.core.steps.on_failure", ("on_failure",)),
        ("flyte_nb.io.checkpoint", ("BaseCheckpoint", "Checkpoint", "latest_checkpoint")),
        ("flyte_nb.kernel.session", ("dask_client",)),
        (
            "flyte_nb.unsupported",
            ("ImageBuild", "build", "build_images", "deploy", "load_interactive_ctx", "load_plugin_config",
             "run_python_script", "serve", "with_servecontext"),
        ),
    )
    for name in names
}  # fmt: skip
#: Submodules that are imported when first used: Flyte's, ours, and one that programs know by a private name.
_LAZY_MODULES = {
    **{name: f"flyte_nb.{name}" for name in (*_SUBMODULES, "cache", "testing")},
    "_cache": "flyte_nb.core.settings.cache",
}


def version() -> str:
    """The version of this package."""
    return __version__


@_Dual
def init(cluster: Any = None, **options: Any) -> None:
    """Say where tasks run; without it, the first run starts an embedded cluster.

    Given nothing about a cluster, it starts none: the first run does.

    Args:
        cluster: Address of a Dask scheduler, scheduler file, `distributed.Client` or Dask cluster object; None = an embedded
            cluster of this machine's cores.
        **options: ``n_workers`` (None = one per core), ``threads_per_worker`` (1), ``memory_limit`` (what a worker process
            may use: "2 GiB", bytes, "auto" = its share of the machine, None = no limit), ``dashboard`` (False),
            ``security`` (TLS credentials of an existing cluster), ``links`` (how its workers are reached: "direct", "relay" =
            through the scheduler, "auto" = whichever answers first), ``placement_timeout`` (seconds after which an action fails
            that no worker can take; without it, 600 if none offers what it needs, and no limit while a cluster has no workers);
            ``on_failure`` ("raise" or "pause") and ``breakpoint_wait`` (seconds), for runs that are not told otherwise;
            ``cache_dir`` (folder of the result cache; the user's cache folder without it, or ``FLYTE_NB_CACHE_DIR``);
            ``history`` (False: runs are not recorded; a folder: they are, there; ``FLYTE_NB_HISTORY`` says the same);
            ``strict`` (True: tasks without annotations are refused). Of Flyte's own keywords, ``project``, ``domain``,
            ``org``, ``version``, ``log_level`` and ``user_log_level`` take effect; the others (``endpoint root_dir ...``) are
            accepted, and that is said once each.

    Raises:
        errors.NoClusterError: The scheduler cannot be reached.
        ValueError: An option about the embedded cluster has a value that it cannot have.
        TypeError: There is no such option.
    """
    _check(options)
    _set_defaults(**options)
    if options.get("cache_dir") is not None:
        importlib.import_module("flyte_nb.core.cache.location").configure(options["cache_dir"])
    if options.get("history") is not None:
        importlib.import_module("flyte_nb.core.journal.location").configure(options["history"])
        session = importlib.import_module("flyte_nb.kernel.session").Session.current
        if session is not None:
            session.record_again()
    if "on_failure" in options or "breakpoint_wait" in options:
        onfailure = importlib.import_module("flyte_nb.core.steps.on_failure")
        onfailure.set_defaults(options.get("on_failure"), options.get("breakpoint_wait"))
    ours = {key: options[key] for key in _CLUSTER_OPTIONS if key in options}
    if cluster is None and not ours:
        return
    if cluster is None:
        _begin_workers()
    session = importlib.import_module("flyte_nb.kernel.session")
    made = session.replace(target=cluster, **ours)
    if cluster is not None:
        made.wait_attached()


@_Dual
def init_from_config(path_or_config: Any = None, *, path: Any = None, **options: Any) -> None:
    """Take project and domain from a Flyte configuration file; its endpoint and credentials have no use here.

    Args:
        path_or_config: The file, or a `flyte.config.Config`; None for no file.
        path: The same, by its older name.
        **options: As those of `init`; they come before the file's.

    Raises:
        errors.InitializationError: There is no such file (code "ConfigFileNotFoundError").
    """
    found = _read_config(path_or_config if path_or_config is not None else path)
    given = {key: value for key, value in options.items() if value is not None}
    init(**{**found, **given})


def _init_without_server(*_credentials: Any, **options: Any) -> None:
    """As `init`: credentials of a Flyte server have no use here."""
    init(**options)


init_from_api_key: _Dual[..., None] = _Dual(_init_without_server, name="init_from_api_key")
init_in_cluster: _Dual[..., None] = _Dual(_init_without_server, name="init_in_cluster")
init_passthrough: _Dual[..., None] = _Dual(_init_without_server, name="init_passthrough")


def is_control_plane_available() -> bool:
    """False: there is no Flyte server."""
    return False


def shutdown() -> None:
    """Cancel what runs and close the cluster. A later call starts anew."""
    session = importlib.import_module("flyte_nb.kernel.session")
    if session.Session.current is not None:
        session.Session.current.close()


def _begin_workers() -> None:
    importlib.import_module("flyte_nb.kernel").begin_workers()


def _cluster_engine() -> Any:
    _begin_workers()
    return importlib.import_module("flyte_nb.kernel.session").ensure()


Run.actions = property(_actions.actions_of, doc="Its actions, root first, in order of arrival.")
Run.to_rows, Run.to_pandas, Run.compare = _table.rows_of, _table.to_pandas, _compare.compare
Run.to_arrow, Run.to_polars = _table.to_arrow, _table.to_polars
_KINDS.append((_yields, _StreamTask))
_over_streams_with(_map_over)
_runs.provide("remote", _cluster_engine)
_runs.detach_with(lambda *call: importlib.import_module("flyte_nb.kernel.detached_runs.start").detach(*call))
_runs.provide("local", lambda: importlib.import_module("flyte_nb.core.runs.local").LocalEngine())
_provide_to_ctx(
    report=lambda context: importlib.import_module("flyte_nb.report").report_of(context),
    checkpoint=lambda context: importlib.import_module("flyte_nb.io.checkpoint").of(context),
    checkpoint_paths=lambda context: importlib.import_module("flyte_nb.io.checkpoint").paths_of(context),
)
errors.render_with(lambda error: importlib.import_module("flyte_nb.core.failures.traceback_text").render(error))


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext flyte_nb``."""
    _begin_workers()
    with importlib.import_module("flyte_nb.kernel.interrupts.importing").interruptible():
        extension = importlib.import_module("flyte_nb.kernel.extension")
    extension.load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext flyte_nb``."""
    importlib.import_module("flyte_nb.kernel.extension").unload(ip)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return importlib.import_module(_LAZY_MODULES[name])
    raise AttributeError(f"module 'flyte_nb' has no attribute {name!r}")


__all__ = [
    "AMD_GPU", "APPLE_SILICON", "GPU", "HABANA_GAUDI", "TPU", "AsyncFunctionTaskTemplate", "Backoff", "BaseCheckpoint",
    "Cache", "CachePolicy", "CacheRequest", "Checkpoint", "ConditionWebhook", "Cron", "Device", "DeviceClass",
    "Documentation", "Environment", "FixedRate", "Image", "ImageBuild", "Link", "Neuron", "OnArtifact", "PodTemplate",
    "Resources", "RetryStrategy", "ReusePolicy", "Run", "Secret", "SecretRequest", "Stream", "Task", "TaskEnvironment",
    "TaskTemplate", "Timeout", "TimeoutType", "Trigger", "TriggerTime", "TriggeredArtifact", "__version__", "app",
    "artifacts", "build", "build_images", "config", "ctx", "current_domain", "current_project", "custom_context",
    "dask_client", "deploy", "durable", "errors", "extras", "get_custom_context", "git", "group", "init", "init_from_api_key",
    "init_from_config", "init_in_cluster", "init_passthrough", "install", "install_as_flyte", "io",
    "is_control_plane_available", "last_run", "latest_checkpoint", "load_interactive_ctx", "load_plugin_config",
    "logger", "map", "merge", "models", "new_condition", "notify", "on_failure", "prefetch", "progress", "remote", "report",
    "rerun", "run", "run_python_script", "runs", "serve", "shutdown", "storage", "syncify", "system_logger", "testing", "trace",
    "track",
    "types", "version", "with_runcontext", "with_servecontext",
]  # fmt: skip


#: Names of Flyte's that programs import and that do nothing here: Tab does not offer them.
_SILENT = frozenset(
    {
        "ConditionWebhook", "Cron", "FixedRate", "ImageBuild", "OnArtifact", "PodTemplate", "Trigger", "TriggerTime",
        "TriggeredArtifact", "build", "build_images", "deploy", "init_from_api_key", "init_in_cluster", "init_passthrough",
        "is_control_plane_available", "load_interactive_ctx", "prefetch", "run_python_script", "serve", "with_servecontext",
    }
)  # fmt: skip


def __dir__() -> list[str]:
    return sorted(set(__all__) - _SILENT)
