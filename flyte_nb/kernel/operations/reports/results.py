"""Results of a run as a table, and beside another run's: ``%flyte results``, ``%flyte compare``.

Also a run that is the last expression of a cell. Runs in: kernel main thread.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from flyte_nb.core.results.compare import compare as compared
from flyte_nb.core.results.table import rows_of, to_pandas
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.run import Run
from flyte_nb.core.values.describe import plain
from flyte_nb.kernel.operations import LOOK, subcommand
from flyte_nb.kernel.operations.runs import latest, load_if_earlier
from flyte_nb.kernel.session import Session

#: Rows that are shown as text.
MAX_ROWS = 200


@subcommand(
    "results", "[r3] [--task fit] [--group g]", "a run's actions as a table: arguments, results, times", when=LOOK
)
def results(session: Session, *words: str) -> str | None:
    """A row for each action, as ``run.to_pandas()`` gives it."""
    options, names = _options(words)
    unknown = options.keys() - {"task", "group"}
    if unknown:
        return f"%flyte results takes --task and --group, not --{min(unknown)}."
    name = names[0] if names else latest(session)
    run = _run(session, name)
    if isinstance(run, str):
        return run
    if importlib.util.find_spec("pandas") is not None:
        _show(to_pandas(run, **options))
        return None
    rows = rows_of(run, **options)
    more = f"\n… {len(rows) - MAX_ROWS:,} more; `run.to_rows()` has all." if len(rows) > MAX_ROWS else ""
    return "\n".join(plain(str(row)) for row in rows[:MAX_ROWS]) + more


@subcommand("compare", "r3 r7", "what became slower or faster, failed or was mended, whose results changed", when=LOOK)
def compare(session: Session, *words: str) -> str | None:
    """The differences between two runs."""
    if len(words) != 2:
        return "Name two runs: `%flyte compare r3 r7`; `%flyte runs` lists them."
    runs = [_run(session, name) for name in words]
    for run in runs:
        if isinstance(run, str):
            return run
    found = compared(*runs)  # type: ignore[arg-type]
    print(found)  # noqa: T201 - the line above the table
    if not found.differences:
        return None
    if importlib.util.find_spec("pandas") is not None:
        _show(found.to_pandas())
        return None
    return "\n".join(
        plain(f"{d.what}: {d.before or d.after} {d.label} {d.detail}") for d in found.differences[:MAX_ROWS]
    )


def _show(table: Any) -> None:
    from IPython.display import display

    display(table)


def display_run(run: Run) -> None:
    """Show a run that is a cell's last expression: its view; one line where that is under this cell already."""
    session = Session.current
    is_known = session is not None and session.notebook is not None and run.name in session.store.runs
    if session is None or not is_known or session.shown.cells.get(run.name, False) is session.cells.current:
        print(repr(run))  # noqa: T201 - as IPython would
    else:
        session.show_here(run.name)


def _run(session: Session, name: str) -> Run | str:
    """The run of this name; why there is none."""
    amiss = load_if_earlier(session, name)
    found = run_registry.known(name)
    if amiss or found is None:
        return amiss or session.store.missing(name)
    return found


def _options(words: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """``--name value`` and ``--name=value``, and what is neither."""
    options: dict[str, str] = {}
    names, left = [], iter(words)
    for word in left:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name] = value if equals else next(left, "")
        else:
            names.append(word)
    return options, names
