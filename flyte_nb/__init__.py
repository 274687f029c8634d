"""Flyte 2's asynchronous model on Dask, for Jupyter: ``await`` a task in a cell and it runs on the cluster.

``import flyte_nb as flyte`` gives the names of Flyte 2's SDK. Importing starts nothing and is fast: the cluster, IPython and
the views are imported when they are first needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flyte_nb.core import errors
from flyte_nb.core import runs as _runs
from flyte_nb.core.cachepolicy import Cache, CachePolicy
from flyte_nb.core.context import ctx, custom_context, get_custom_context, group
from flyte_nb.core.environment import Environment, TaskEnvironment
from flyte_nb.core.mapping import map  # noqa: A004 - Flyte's name
from flyte_nb.core.resources import GPU, Device, Resources
from flyte_nb.core.retry import Backoff, RetryStrategy, Timeout
from flyte_nb.core.reuse import ReusePolicy
from flyte_nb.core.runs import Run, run, with_runcontext
from flyte_nb.core.task import AsyncFunctionTaskTemplate, Task, TaskTemplate

if TYPE_CHECKING:
    from flyte_nb.core.image import Image as Image
    from flyte_nb.core.secret import Secret as Secret

__version__ = "0.1.0"
version = __version__

#: Names that are imported when first used: (module, name there).
_LAZY = {
    "Image": ("flyte_nb.core.image", "Image"),
    "Secret": ("flyte_nb.core.secret", "Secret"),
    "PodTemplate": ("flyte_nb.core.accepted", "PodTemplate"),
    "Documentation": ("flyte_nb.core.accepted", "Documentation"),
    "Link": ("flyte_nb.core.accepted", "Link"),
    "Trigger": ("flyte_nb.core.accepted", "Trigger"),
    "Cron": ("flyte_nb.core.accepted", "Cron"),
    "FixedRate": ("flyte_nb.core.accepted", "FixedRate"),
    "TriggerTime": ("flyte_nb.core.accepted", "TriggerTime"),
    "testing": ("flyte_nb.testing", None),
}


def init(cluster: Any = None, **options: Any) -> None:
    """Say where tasks run; without it, the first run starts an embedded cluster.

    Args:
        cluster: Address of a Dask scheduler, scheduler file, `distributed.Client` or Dask cluster object; None = an embedded
            cluster of this machine's cores.
        **options: ``n_workers`` (None = one per core), ``threads_per_worker`` (1), ``dashboard`` (False). Flyte's own keywords
            (``endpoint project domain root_dir ...``) are accepted and have no effect here.

    Raises:
        errors.NoClusterError: The scheduler cannot be reached.
    """
    session = importlib.import_module("flyte_nb.kernel.session")
    ours = {key: options[key] for key in ("n_workers", "threads_per_worker", "dashboard") if key in options}
    old = session.Session.current
    if old is None:
        session.ensure(target=cluster, **ours)
    elif cluster is not None or ours:
        old.replace_cluster(cluster, ours)
    if cluster is not None:
        session.Session.current.wait_ready()


def shutdown() -> None:
    """Cancel what runs and close the cluster. A later call starts anew."""
    session = importlib.import_module("flyte_nb.kernel.session")
    if session.Session.current is not None:
        session.Session.current.close()


def _cluster_engine() -> Any:
    return importlib.import_module("flyte_nb.kernel.session").ensure()


_runs.provide("remote", _cluster_engine)


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext flyte_nb``."""
    importlib.import_module("flyte_nb.kernel.extension").load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext flyte_nb``."""
    importlib.import_module("flyte_nb.kernel.extension").unload(ip)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        found = importlib.import_module(module)
        return found if attribute is None else getattr(found, attribute)
    raise AttributeError(f"module 'flyte_nb' has no attribute {name!r}")


__all__ = [
    "GPU",
    "AsyncFunctionTaskTemplate",
    "Backoff",
    "Cache",
    "CachePolicy",
    "Device",
    "Environment",
    "Resources",
    "RetryStrategy",
    "ReusePolicy",
    "Run",
    "Task",
    "TaskEnvironment",
    "TaskTemplate",
    "Timeout",
    "__version__",
    "ctx",
    "custom_context",
    "errors",
    "get_custom_context",
    "group",
    "init",
    "map",
    "run",
    "shutdown",
    "version",
    "with_runcontext",
]  # fmt: skip
