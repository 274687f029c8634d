"""Past of a session: record its runs, find those of earlier kernels, say which one was cut off. Runs in: kernel main thread."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from flyte_nb.core.journal import location
from flyte_nb.core.journal.history import History, PastRun
from flyte_nb.core.journal.journal import Journal
from flyte_nb.core.journal.kernels import SILENT_S
from flyte_nb.core.journal.restore import Past, when
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.engine import Engine

#: Folders whose runs that were cut off a person was told of, in this process.
_told: set[Path] = set()
#: Runs that were said to be cut off; and when to look again at folders where it was not known whether a kernel lives.
_said: set[tuple[Path, str]] = set()
_look_again: dict[Path, float] = {}


def past_of(session: Any) -> Past | None:
    """Begin to record a session's runs; None where that is off."""
    folder = location.folder()
    session.engine.answers.serve("history.place", lambda _run, then, *_args: then(None))
    if folder is None:
        run_registry.find_earlier_with(lambda _name: None, lambda _limit: [])
        return None
    max_bytes, max_days = location.bounds()
    journal = Journal(folder, session.store, location.notebook_of({}), max_bytes=max_bytes, max_days=max_days)
    session.engine.answers.serve("history.place", lambda run, then, *args: then(journal.place(run, *args)))
    past = Past(session, journal, History(folder))
    run_registry.find_earlier_with(
        past.get, lambda limit: [past.run(run) for run in past.runs(limit=limit) if not run.dropped]
    )
    return past


def stop_recording(past: Past, engine: Engine) -> None:
    """Record nothing any more; `past_of` says what is found from now on."""
    past.close()
    engine.retained.keeper = None


def say_cut_off(past: Past | None, variables: dict[str, Any]) -> None:
    """Say, once a kernel and folder, which runs the notebook's previous kernel did not see through.

    Of one that may, or may not, go on elsewhere it is said when that will be known; then it is looked at again, once.

    Args:
        past: Of the session; None where nothing is recorded.
        variables: The notebook's: only now is it certain which notebook it is.
    """
    if past is None:
        return
    folder = past.history.folder
    again = time.time() >= _look_again.get(folder, math.inf)
    if not past.placed:
        past.placed = True
        past.journal.notebook = location.notebook_of(variables)
    if folder in _told and not again:
        return
    _told.add(folder)
    _look_again.pop(folder, None)
    found = past.history.cut_off(past.journal.notebook)
    if found and (folder, found[-1].name) not in _said:
        _said.add((folder, found[-1].name))
        print(cut_off_sentence(found))  # noqa: T201 - no mistake: not in red
    if again:
        return
    for run in past.history.may_live(past.journal.notebook)[-1:]:
        _look_again[folder] = time.time() + SILENT_S
        print(f"{run.may_live_text}: then `%%flyte recover` in the first line of its cell keeps what was done.")  # noqa: T201
    for run in past.history.under_way(past.journal.notebook):
        print(  # noqa: T201 - as above
            f"{run.name} of {when(run)}, {run.title!r}, goes on in a process of its own: {run.done:,} of {run.actions:,} "
            f"actions done. `%flyte show {run.name}` shows it, `%flyte cancel {run.name}` ends it."
        )


def cut_off_sentence(found: list[PastRun]) -> str:
    """Which run was cut off, and what to do."""
    run = found[-1]
    others = f" (and {len(found) - 1} more: `%flyte runs`)" if len(found) > 1 else ""
    what = f"{run.name} of {when(run)}, {run.title!r}, was {run.cut_off_text} with its kernel"
    count = f"{run.done:,} of {run.actions:,} actions done"
    how = "run its cell again with `%%flyte recover` in the first line"
    if run.kind != "cell":
        how = f'`flyte.rerun("{run.name}", recover=True)`, once its tasks are defined,'
    return f"{what}: {count}{others}. {how[0].upper()}{how[1:]} to keep what was done."
