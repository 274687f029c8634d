"""Cluster: describe it, or replace it, ``%flyte cluster``. Runs in: kernel main thread."""

from __future__ import annotations

import time

from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.session import Session, replace


@subcommand("cluster", "[restart]", "which cluster, its workers and slots; restart replaces it")
def cluster(session: Session, *words: str) -> str:
    """Describe the cluster, or replace it by a fresh one of the same kind."""
    if words and words != ("restart",):
        return f"%flyte cluster {' '.join(words)}: the only word here is restart. %flyte cluster restart replaces the cluster."
    if words:
        session = replace(**session.options)
        session.wait_ready(60)
    return cluster_text(session)


def cluster_text(session: Session) -> str:
    """Which cluster, its workers and slots."""
    if not session.starting.done():
        return "The cluster is starting."
    session.wait_ready()
    network = session.engine.network
    handle = network.handle
    assert handle is not None
    if handle.client.scheduler is None:  # Dask's client has closed itself
        return network.lost_text()
    what = "Embedded cluster" if handle.embedded else "Attached to"
    slots = sum(w.nthreads for w in network.roster.values())
    missing = getattr(handle.cluster, "missing", {})
    lines = [f"{what} {handle.client.scheduler.address}: {len(network.roster)} workers, {slots} slots"]
    lines += [
        f"  {w.address}  {w.nthreads} slot{'s' * (w.nthreads > 1)}{_silence(network.quiet.get(w.address, 0.0))}"
        for w in network.roster.values()
    ]
    lines += [
        f"  a worker is missing for {time.monotonic() - since:.0f} s: it is being started again"
        for since in missing.values()
    ]
    lines += [f"  {address}  cannot be reached from here: {why}" for address, why in network.unreachable.items()]
    return "\n".join(lines)


def _silence(seconds: float) -> str:
    """What is said of a worker that has not answered for so long."""
    if seconds < SILENT_S:
        return ""
    return (
        f"  silent for {seconds:.0f} s: code there holds Python's interpreter lock, or the process stands still. It is given "
        "nothing new, and is replaced once something there is cancelled or out of time"
    )
