"""Cluster: describe, replace or prepare it, ``%flyte cluster`` and ``%%flyte everywhere``. Runs in: kernel main thread."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

from flyte_nb.engine.links.pulse import SILENT_S
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.session import Session, replace

#: Seconds between two looks for the stop button.
LOOK_EVERY = 0.1
#: Most cells that workers which come later are given.
MAX_CELLS = 200


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
    if network.is_lost:
        return network.lost_text()
    what = "Embedded cluster" if handle.embedded else "Attached to"
    slots = sum(w.nthreads for w in network.roster.values())
    missing = getattr(handle.cluster, "missing", {})
    lines = [f"{what} {handle.client.scheduler.address}: {len(network.roster)} workers, {slots} slots"]
    relayed = [w.address for w in network.roster.values() if network.routes.is_relayed(w.address)]
    if relayed:
        which = "the workers" if len(relayed) == len(network.roster) else f"{len(relayed)} of the workers"
        lines.append(f'  links through the scheduler ({which} cannot be reached from here, or links="relay")')
    lines += [
        f"  {w.address}  {w.nthreads} slot{'s' * (w.nthreads > 1)}{_silence(network.quiet.get(w.address, 0.0))}"
        for w in network.roster.values()
    ]
    lines += [
        f"  a worker is missing for {time.monotonic() - since:.0f} s: it is being started again"
        for since in missing.values()
    ]
    lines += [f"  {address}  cannot be reached from here: {why}" for address, why in network.unreachable.items()]
    lines += [f"  {address}  is not used: {why}" for address, why in network.unfit.items()]
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
            lines.append(f"[{address}] {printed.rstrip()}")
        if error:
            lines.append(f"[{address}] failed:\n{error.rstrip()}")
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


def _silence(seconds: float) -> str:
    """What is said of a worker that has not answered for so long."""
    if seconds < SILENT_S:
        return ""
    return (
        f"  silent for {seconds:.0f} s: code there holds Python's interpreter lock, or the process stands still. It is given "
        "nothing new, and is replaced once something there is cancelled or out of time"
    )
