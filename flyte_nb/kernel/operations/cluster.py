"""Cluster: describe it, or replace it, ``%flyte cluster``. Runs in: kernel main thread."""

from __future__ import annotations

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
    lines = [f"{what} {handle.client.scheduler.address}: {len(network.roster)} workers, {slots} slots"]
    relayed = [w.address for w in network.roster.values() if network.routes.is_relayed(w.address)]
    if relayed:
        which = "the workers" if len(relayed) == len(network.roster) else f"{len(relayed)} of the workers"
        lines.append(f'  links through the scheduler ({which} cannot be reached from here, or links="relay")')
    lines += [f"  {w.address}  {w.nthreads} slot{'s' * (w.nthreads > 1)}" for w in network.roster.values()]
    lines += [f"  {address}  cannot be reached from here: {why}" for address, why in network.unreachable.items()]
    lines += [f"  {address}  is not used: {why}" for address, why in network.unfit.items()]
    return "\n".join(lines)
