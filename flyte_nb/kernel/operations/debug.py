"""Debugger on a remote failure: ``%flyte debug``. Runs in: kernel main thread."""

from __future__ import annotations

from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.run_lookup import error_of, find
from flyte_nb.kernel.session import Session


@subcommand("debug", "a17", "debugger at the remote frame of a failed action")
def debug(session: Session, *words: str) -> str | None:
    """Open IPython's debugger on the frames of a failed action, with the locals they had on the worker."""
    if not words:
        return "Which action? %flyte debug a17"
    found = find(session, words[0])
    if found is None:
        return f"There is no action {words[0]}."
    _, action = found
    error = error_of(action)
    if error is None or error.record is None:
        return f"{action.label} has no failure record: it is {action.phase.value.replace('_', ' ')}."
    from flyte_nb.core.failures.record import FailureRecord
    from flyte_nb.kernel.debugger.post_mortem import post_mortem

    post_mortem(FailureRecord.loads(error.record))
    return None
