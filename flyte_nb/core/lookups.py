"""Find runs of this process again: ``flyte_nb.runs()``, ``flyte_nb.last_run()``. Runs in: the user's process."""

from __future__ import annotations

from flyte_nb.core.runs import last_run, runs

__all__ = ["last_run", "runs"]
