"""Cluster: describe, replace or prepare it, ``%flyte cluster`` and ``%%flyte everywhere``. Runs in: kernel main thread."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Awaitable, Mapping
from typing import Any

from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.values.describe import bytes_text
from flyte_nb.engine.machine import WorkerLoad
from flyte_nb.kernel.operations import SLOW, button, subcommand
from flyte_nb.kernel.session import Session, replace
from flyte_nb.views.words import label_text

#: Seconds between two looks for the stop button.
LOOK_EVERY = 0.1
#: Most cells that workers which come later are given.
MAX_CELLS = 200
#: Seconds that a look at the workers may take.
LOOK_WITHIN = 3.0
#: Actions that are named at a worker.
MAX_NAMED = 8
#: Share of its memory from which on it is said that a worker is short of it: Dask begins to write its own data to disk.
NEARLY_FULL = 0.7


@subcommand(
    "cluster",
    "[restart]",
    "which cluster, how busy and full its workers are, what runs there; restart replaces it",
    when=SLOW,
)
def cluster(session: Session, *words: str) -> str | None:
    """Describe the cluster, live where a browser can show it; or replace it by a fresh one of the same kind."""
    if words and words != ("restart",):
        return f"%flyte cluster {' '.join(words)}: the only word here is restart. %flyte cluster restart replaces the cluster."
    if words:
        session = replace(**session.options)
        session.wait_ready(60)
    text, notebook = cluster_text(session), session.notebook
    if words or notebook is None or not notebook.output.in_kernel or not notebook.is_attended():
        return text
    session.gateway.ask(session.shown.show_cluster, session.cells.current, lambda: workers_now(session), text)
    return None


def cluster_text(session: Session) -> str:
    """Which cluster, its workers and slots."""
    if not session.starting.done():
        return "The cluster is starting."
    session.wait_ready()
    network = session.engine.network
    handle = network.handle
    assert handle is not None
    if network.is_lost:
        return network.lost_text()
    what = "Embedded cluster" if handle.embedded else "Attached to"
    slots = sum(w.nthreads for w in network.roster.values())
    lines = [f"{what} {handle.client.scheduler.address}: {len(network.roster)} workers, {slots} slots"]
    relayed = [w.address for w in network.roster.values() if network.routes.is_relayed(w.address)]
    if relayed:
        which = "the workers" if len(relayed) == len(network.roster) else f"{len(relayed)} of the workers"
        lines.append(f'  links through the scheduler ({which} cannot be reached from here, or links="relay")')
    with contextlib.suppress(TimeoutError):
        lines += session.engine.call(_load_texts, session, timeout=LOOK_WITHIN)
    unused = {worker: f"cannot be reached from here: {why}" for worker, why in network.unreachable.items()}
    unused |= {
        worker: f"is not used: it {why.removeprefix(f'worker {worker} ')}" for worker, why in network.unfit.items()
    }
    lines += [f"  {name_of(worker):<4} {worker}  {said}" for worker, said in unused.items()]
    return "\n".join(lines)


@subcommand(
    "everywhere", "", "first line of a cell, as %%flyte everywhere: run it here and on every worker, later ones too"
)
def everywhere(session: Session, *_words: str) -> str:
    """Run the rest of the cell on all workers; then it runs here."""
    source = session.cells.rest_of_cell("everywhere")
    if not source.strip():
        return "Nothing to run: put %%flyte everywhere into the first line of a cell, and what is to be run below it."
    session.wait_ready()
    answers = run_on_workers(session, source)
    lines = []
    for address, (printed, error) in sorted(answers.items()):
        if printed.strip():
            lines.append(f"[{name_of(address)}] {printed.rstrip()}")
        if error:
            lines.append(f"[{name_of(address)}] failed:\n{error.rstrip()}")
    failed = sum(bool(error) for _, error in answers.values())
    many = f"{len(answers)} worker{'s' * (len(answers) != 1)}"
    lines.append(f"Run on {many}{f', failed on {failed}' if failed else ''}; it runs here now.")
    return "\n".join(lines)


def run_on_workers(session: Session, source: str) -> dict[str, tuple[str, str]]:
    """Run code on every worker, and on those that come later; returns what each printed, and its error or ""."""
    engine, done = session.engine, threading.Event()
    answers: dict[str, tuple[str, str]] = {}
    asked: list[str] = []

    def begin() -> None:
        cells = engine.network.everywhere
        cells.append((cells[-1][0] + 1 if cells else 1, source))
        del cells[:-MAX_CELLS]
        asked.extend(engine.network.links)
        if not asked:
            done.set()
        for address in asked:
            sent = (engine.network.me, [cells[-1]])
            engine.switchboard.ask(address, "everywhere", sent, functools.partial(heard, address))

    def heard(address: str, found: Any) -> None:
        answers[address] = found or ("", "it went away")
        if len(answers) == len(asked):
            done.set()

    engine.gateway.run_soon(begin)
    while not done.wait(LOOK_EVERY):
        pass
    return answers


async def _load_texts(session: Session) -> list[str]:
    return [_load_text(session, load) for load in await session.engine.machine.look()]


def _load_text(session: Session, load: WorkerLoad) -> str:
    """A worker on one line: how busy and how full it is, what computes there, and what is amiss with it."""
    if load.state == "starting":
        return f"  {load.name:<4} is missing for {load.since:.0f} s: it is being started again"
    memory = bytes_text(load.memory)
    if load.limit:
        memory += f" of {bytes_text(load.limit)} ({load.memory / load.limit:.0%})"
    parts = [
        f"CPU {load.cpu:4.0%}",
        memory,
        f"{_busy(load)} of {load.slots} slot{'s' * (load.slots != 1)} busy",
    ]
    if load.spilled:
        parts.append(f"{bytes_text(load.spilled)} spilled to disk")
    running = ", ".join(f"{name} {label}" for name, label, _ in running_on(session, load)[:MAX_NAMED])
    amiss = _amiss(load)
    said = f"{', '.join(parts)}{f': {running}' if running else ''}{f'. {amiss}' if amiss else ''}"
    return f"  {load.name:<4} {load.address}  {said}"


def _busy(load: WorkerLoad) -> int:
    """How many of its slots are in use: what has waited for long goes on beside them, in the spare one."""
    return min(len(load.computing), load.slots)


def _amiss(load: WorkerLoad) -> str:
    """What is amiss with a worker, as a sentence; "" for nothing."""
    if load.state == "silent":
        return (
            f"It has been silent for {load.since:.0f} s: code there holds Python's interpreter lock, or the process stands "
            "still. It is given nothing new, and is replaced once something there is cancelled or out of time"
        )
    if load.state == "paused":
        return "It is paused, since it is short of memory: it goes on with what it has, and is given nothing new"
    if load.limit and load.memory > NEARLY_FULL * load.limit:
        share = f"{100 * load.memory / load.limit:.0f} %"
        return f"It is short of memory: {share} is used; at 80 % it is given nothing new, at 95 % its process is ended"
    return "It is leaving the cluster" if load.state == "leaving" else ""


def running_on(session: Session, load: WorkerLoad) -> list[tuple[str, str, str]]:
    """What computes on a worker: "r3/a17", its label, and its name in its run."""
    found = []
    for run, name in sorted(load.computing):
        record = session.store.runs.get(run)
        action = record.actions.get(name) if record is not None else None
        if action is not None:
            found.append((f"{run}/{action.id}", label_text(action.label or action.task, 80), action.name))
    return found


@button("cluster")
def cluster_button(session: Session, _run: str, _args: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
    """What the strip of a view shows, which asks once a second while somebody looks."""
    return workers_now(session)


async def workers_now(session: Session) -> dict[str, Any]:
    """All workers as a view shows them, or why there are none."""
    network = session.engine.network
    if not network.ready.done():
        return {"workers": [], "said": network.starting_text}
    if network.is_lost:
        return {"workers": [], "said": network.lost_text()}
    return {"workers": [_worker(session, load) for load in await session.engine.machine.look()], "said": ""}


def _worker(session: Session, load: WorkerLoad) -> dict[str, Any]:
    return {
        "name": load.name, "address": load.address, "slots": load.slots, "state": load.state, "cpu": round(load.cpu, 2),
        "memory": load.memory, "limit": load.limit, "spilled": load.spilled, "amiss": _amiss(load),
        "busy": _busy(load), "runs": running_on(session, load)[:MAX_NAMED],
    }  # fmt: skip
