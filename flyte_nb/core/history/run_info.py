"""Facts of a run that each of its actions knows. Runs in: everywhere."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from flyte_nb import import_alias
from flyte_nb.core.transport.process_folder import session_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What every action of a run knows about it; sent to each worker once per run."""

    #: Short name, unique in its kernel: "r3".
    name: str
    #: Peer that owns the run's store ("local" without a cluster).
    home: str = "local"
    #: Aware UTC time, the same for the whole run.
    started_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    #: "remote" on a cluster, "local" in this process.
    mode: str = "remote"
    project: str = "flyte_nb"
    domain: str = "development"
    org: str = ""
    version: str = ""
    #: Folder (any fsspec address) below which large data of the run may be put.
    raw_data_path: str = field(default_factory=session_folder)
    interactive_mode: bool = False
    disable_run_cache: bool = False
    overwrite_cache: bool = False
    #: Environment variables for all tasks of the run.
    env_vars: tuple[tuple[str, str], ...] = ()
    #: Actions of one parent that may be in flight at once; 0 = no bound.
    max_action_concurrency: int = 0
    #: "raise" or "pause": what a failed action does.
    on_failure: str = "raise"
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    run_base_dir: str = ""
    #: Name of the run whose succeeded actions this one re-uses; "" for none.
    recovers: str = ""
    #: Whether calling a sync task plainly from async code is an error, as in Flyte, instead of a warning.
    strict_sync: bool = False
    #: Whether ``import flyte`` means this package (`flyte_nb.install_as_flyte`), even where the real one is installed.
    as_flyte: bool = field(default_factory=import_alias.is_installed)
    #: Seconds that `breakpoint()` inside an action waits for a debugger to attach; 0 = it does not stop.
    breakpoint_wait: float = 0.0
    #: What cells had set up when they called it (`flyte_nb.core.attempts.surroundings`).
    surroundings: bytes = field(default=b"", repr=False)
    #: Identities of tasks redefined since the run began: (now, then). Set when actions are retried by hand.
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def base_dir(self) -> str:
        """Folder for files of this run alone."""
        if self.run_base_dir:
            return self.run_base_dir.rstrip("/")
        # The time tells runs of the same name apart, where several kernels keep their data in one place.
        return f"{self.raw_data_path.rstrip('/')}/{self.name}-{self.started_at:%Y%m%dT%H%M%S}"
