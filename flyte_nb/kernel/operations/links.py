"""Addresses that a task's links give: ``%flyte links``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.core.tasks.registry import links_of
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.run_lookup import find
from flyte_nb.kernel.session import Session


@subcommand("links", "[r3/]a17", "addresses that an action's task links to")
def links(session: Session, *words: str) -> str:
    """Name and address of each link, one a line."""
    if not words:
        return "Which action? %flyte links a17"
    found = find(session, words[0])
    if found is None:
        return f"There is no action {words[0]}."
    record, action = found
    info = session.info_of(record.state.run)
    if info is None:
        return f"{record.state.run} is forgotten."
    return (
        "\n".join(f"{name}: {address}" for name, address in links_of(action, info)) or f"{action.label} has no links."
    )
