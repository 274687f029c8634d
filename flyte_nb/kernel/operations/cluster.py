"""The cluster: ``%flyte cluster``. Runs in: kernel main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyte_nb.kernel.operations import word

if TYPE_CHECKING:
    from flyte_nb.kernel.session import Session


@word("cluster", "[restart]", "which cluster, its workers and slots; restart replaces it")
def cluster(session: Session, *words: str) -> str:
    """Describe the cluster, or replace it."""
    if words and words != ("restart",):
        return f"%flyte cluster {' '.join(words)}: the only word here is restart. %flyte cluster restart replaces the cluster."
    if words:
        session = session.restart_cluster()
        session.wait_ready(60)
    return session.cluster_text()
