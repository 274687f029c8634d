"""Report for a bug: versions, machine, front end, cluster, last run and its errors as one text, ``%flyte report``.

Secrets are masked, and nothing is sent anywhere: the text is printed, to be read and pasted. Runs in: kernel main thread.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata

import psutil

from flyte_nb.core.failures.record import FailureRecord
from flyte_nb.core.history.facts import Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.transport.process_folder import SHARED_MEMORY
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import bytes_text, plain
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.cluster import cluster_text
from flyte_nb.kernel.operations.nest import nesting
from flyte_nb.kernel.operations.reports.doctor import findings
from flyte_nb.kernel.operations.runs import error_of, latest, load_if_earlier
from flyte_nb.kernel.session import Session

#: Whose versions decide how a kernel and its cluster behave; those that are not installed are left out.
PACKAGES = (
    "flyte_nb", "distributed", "dask", "cloudpickle", "tornado", "ipykernel", "ipython", "jupyter_client", "pyzmq", "anywidget",
    "ipywidgets", "comm", "traitlets", "jupyterlab", "notebook", "voila", "marimo", "nbclient", "papermill", "nest-asyncio",
    "nest-asyncio2", "uvloop", "cryptography", "fsspec", "numpy", "pandas", "pyarrow", "polars",
)  # fmt: skip
#: Environment variables that tell a front end or a host, by the start of their names; values are shown, masked.
TELLING = ("FLYTE_NB_", "JPY_", "VSCODE_", "COLAB_", "KAGGLE_", "JUPYTERHUB_SERVICE_PREFIX", "CI", "DASK_")
#: Most errors that are shown, and characters of each; most variables, and characters of each.
MAX_ERRORS, MAX_ERROR = 5, 600
MAX_VARIABLES, MAX_VALUE = 30, 80
#: Seconds to wait for the engine, which may be what the bug report is about.
ANSWER_WITHIN = 5.0


@subcommand(
    "report", "[r3]", "one text for a bug report: versions, machine, cluster, last run, last errors; secrets masked"
)
def report(session: Session, *words: str) -> str:
    """The report; of the latest run without a name. It is made as far as it can be: what fails says so in its place."""
    name = words[0] if words else latest(session)
    amiss = load_if_earlier(session, name)
    parts: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("versions", _versions),
        ("machine", _machine),
        ("front end", lambda: _front_end(session)),
        ("cluster", lambda: iter([f"options: {_options(session)}", cluster_text(session)])),
        ("doctor", lambda: iter(findings(session) or ["nothing is amiss"])),
        (f"run {name}".rstrip(), lambda: iter([amiss]) if amiss else _run(session, name)),
    ]
    lines = [
        "```text",
        "flyte_nb report. Read it before you post it: what looks like a secret is masked, by name and shape.",
    ]
    for title, make in parts:
        lines += ["", f"[{title}]"]
        try:
            lines += [plain(line) for line in make()]
        except Exception as exc:
            lines.append(f"(not to be had: {type(exc).__name__}: {plain(str(exc))})")
    return redact.scrub_code("\n".join([*lines, "```"]))


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    yield ", ".join(found)
    yield f"nested loops: {nesting().value}"


def _machine() -> Iterator[str]:
    yield f"{platform.platform()}, {os.cpu_count()} cores, {bytes_text(psutil.virtual_memory().total)} of memory"
    if SHARED_MEMORY.is_dir():
        usage = shutil.disk_usage(SHARED_MEMORY)
        yield f"{SHARED_MEMORY}: {bytes_text(usage.free)} free of {bytes_text(usage.total)}"
    mine = psutil.Process()
    yield f"kernel process: {bytes_text(mine.memory_info().rss)}, {mine.num_threads()} threads, {mine.num_fds()} files open"


def _front_end(session: Session) -> Iterator[str]:
    notebook = session.notebook
    if notebook is None:
        yield "none: a script, or Python's own prompt"
        return
    shell, attended = type(notebook.cells.ip).__name__, notebook.is_attended()
    where = "a Jupyter front end" if notebook.output.in_kernel else "a terminal"
    yield f"{shell}, {where}, {'answers' if attended else 'no'} prompts"
    modes = Counter(view.mode.value for view in list(session.shown.views.values()))
    yield "views: " + (", ".join(f"{count} {mode}" for mode, count in modes.items()) or "none yet")
    told = sorted(name for name in os.environ if name.startswith(TELLING))
    for name in told[:MAX_VARIABLES]:
        value = os.environ[name]
        yield f"{name}={redact.MASK if redact.hides(name, value) else value[:MAX_VALUE]}"


def _options(session: Session) -> str:
    """What `init` was given."""
    given = {name: value for name, value in session.options.items() if value is not None}
    return ", ".join(f"{name}={type(v).__name__ if name == 'security' else v!r}" for name, v in given.items()) or "none"


def _run(session: Session, name: str) -> Iterator[str]:
    """How long it took and where its actions stand, how long they waited and ran; the errors that they ended with."""
    if not name:
        yield "no runs yet"
    elif name not in session.store.runs:
        yield session.store.missing(name)
    else:
        lines, failed, many = session.gateway.ask(_looked_at, session, session.store.runs[name], timeout=ANSWER_WITHIN)
        yield from lines
        yield from _errors(failed)
        if many > len(failed):
            yield f"and {many - len(failed):,} more errors"


def _looked_at(session: Session, record: RunRecord) -> tuple[list[str], list[Action], int]:
    """What is said of a run, its latest errors, and how many there are. On the engine thread."""
    state, actions = record.state, list(record.actions.values())
    took = (state.ended_at or session.engine.controller.now()) - state.started_at
    phases = Counter(action.phase.value for action in actions)
    lines = [
        f"{state.kind} {state.phase.value} after {took:.2f} s{f' ({state.note})' if state.note else ''}: "
        + (", ".join(f"{count:,} {phase}" for phase, count in phases.most_common()) or "no actions")
    ]
    failed = [action for action in actions if action.kind != "root" and error_of(action) is not None]
    return [*lines, *_times(actions)], failed[-MAX_ERRORS:], len(failed)


def _times(actions: list[Action]) -> Iterator[str]:
    begun = [action for action in actions if action.kind == "task" and action.started_at is not None]
    if not begun:
        return
    waits = sorted((action.started_at or 0.0) - action.queued_at for action in begun)
    busy = sum(action.attempt.busy for action in begun if action.attempt is not None)
    workers = {action.attempt.worker for action in begun if action.attempt is not None}
    attempts = sum(len(action.earlier) + 1 for action in begun)
    cached = sum(action.cached for action in actions)
    yield (
        f"waited for a slot: median {waits[len(waits) // 2]:.3f} s, longest {waits[-1]:.3f} s; computed {busy:.2f} s in all, "
        f"on {len(workers)} worker{'s' * (len(workers) != 1)}; {attempts - len(begun):,} further attempts; "
        f"{cached:,} from the cache"
    )


def _errors(failed: list[Action]) -> Iterator[str]:
    for action in failed:
        error = error_of(action)
        assert error is not None
        stopped = " (not by itself)" if action.phase is Phase.ABORTED else ""
        yield f"{action.id} {action.label}: {error.kind} {error.code}{stopped} {error.where}".rstrip()
        yield f"    {error.message[:MAX_ERROR]}"
        if error.record is not None:
            yield from (
                f"    {frame.where}: {frame.line}" for frame in FailureRecord.loads(error.record).frames[-MAX_ERRORS:]
            )
