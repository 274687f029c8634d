"""Results of a run as a table, and beside another run's: ``%flyte results``, ``%flyte compare``.

Also a run that is the last expression of a cell. Runs in: kernel main thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from html import escape
from typing import Any

from flyte_nb.core.results.compare import Comparison, Difference
from flyte_nb.core.results.compare import compare as compared
from flyte_nb.core.results.table import rows_of, to_pandas
from flyte_nb.core.runs import run_registry
from flyte_nb.core.runs.run import Run
from flyte_nb.core.values.describe import plain
from flyte_nb.kernel.operations import LOOK, button, subcommand
from flyte_nb.kernel.operations.runs import latest, load_if_earlier
from flyte_nb.kernel.session import Session
from flyte_nb.views.printed.pictures import points_png
from flyte_nb.views.words import duration

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
    print(found)  # noqa: T201 - the line above the picture and the table
    if len(found.times) > 1:
        _draw(found)
    if not found.differences:
        return None
    if importlib.util.find_spec("pandas") is not None:
        _show(found.to_pandas())
        return None
    return "\n".join(
        plain(f"{d.what}: {d.before or d.after} {d.label} {d.detail}") for d in found.differences[:MAX_ROWS]
    )


def _draw(found: Comparison) -> None:
    """How long calls took in both runs, as points; in a sentence where no picture can be."""
    from IPython.display import display

    before, after = (duration(sum(pair[i] for pair in found.times)) for i in (0, 1))
    words = f"{len(found.times):,} calls that ran in both took {before} in {found.before}, {after} in {found.after}"
    axes = f"To the right: {found.before}, upwards: {found.after}, above the line: slower"
    picture = (
        f'<img alt="{escape(axes)}" style="vertical-align:bottom;margin-right:8px" src="{points_png(found.times)}">'
    )
    page = f"<div>{picture}{escape(words)}<br>{escape(axes)}.</div>"
    display({"text/plain": words, "text/html": page}, raw=True)


@button("compare")
async def compare_in_view(session: Session, run: str, _args: Mapping[str, Any]) -> Any:
    """The differences between a run and the one of the same cell before, for the view."""
    view = session.shown.views.get(run)
    names = (view.model.before if view is not None else "", run)
    runs = [run_registry.known(name) for name in names]
    if None in runs:
        return {"error": f"{names[0] or 'The run before'} is not kept any more."}
    # Results are fetched and compared, which takes a while and is the user's code.
    found: Comparison | str = await session.reader.read(lambda: _compared(*runs), str)  # type: ignore[arg-type]
    if isinstance(found, str):
        return {
            "error": f"{names[0]} and {run} cannot be compared: {found}. `%flyte compare {names[0]} {run}` takes its time."
        }
    return {
        "said": str(found),
        "total": len(found.differences),
        "rows": [_row(one) for one in found.differences[:MAX_ROWS]],
    }


def _compared(before: Run, after: Run) -> Comparison | str:
    try:
        return compared(before, after)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"[:300]


def _row(one: Difference) -> dict[str, Any]:
    return {
        "what": one.what, "label": one.label[:200], "ids": [int(one.before[1:] or 0), int(one.after[1:] or 0)],
        "seconds": [one.seconds_before, one.seconds_after], "detail": one.detail,
    }  # fmt: skip


def _show(table: Any) -> None:
    from IPython.display import display

    display(table)


def display_run(run: Run) -> None:
    """Show a run that is a cell's last expression: its view, and nothing where that is under this cell already."""
    session = Session.current
    is_known = session is not None and session.notebook is not None and run.name in session.store.runs
    if session is None or not is_known:
        print(repr(run))  # noqa: T201 - as IPython would
    elif session.shown.cells.get(run.name, False) is not session.cells.current:
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
