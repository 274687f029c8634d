"""Doctor: what most often is wrong with an installation, and its remedy, ``%flyte doctor``. Runs in: kernel main thread.

A check is a function that looks at one thing and gives sentences, each with the value that it found and what to do; nothing
where all is well. A new check is a function in `CHECKS`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from flyte_nb.core.cache.location import folder_and_bound
from flyte_nb.core.transport.process_folder import SHARED_MEMORY
from flyte_nb.core.values.describe import bytes_text
from flyte_nb.engine.roster import WITHOUT_NANNY
from flyte_nb.kernel.operations import subcommand
from flyte_nb.kernel.operations.nest import Nesting, nesting
from flyte_nb.kernel.session import Session
from flyte_nb.views.surface import Mode

#: Below so many bytes of shared memory, large arrays soon go to disk instead; Docker gives 64 MB.
ENOUGH_SHARED_MEMORY = 512 * 1024**2
#: Below so many free bytes, blobs, caches and histories soon fail.
ENOUGH_DISK = 1024**3
#: Open files that a kernel with some workers takes: sockets, blobs, logs.
ENOUGH_FILES = 1024
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@subcommand("doctor", "", "checks what most often is wrong with an installation, and says the remedy")
def doctor(session: Session, *_words: str) -> str:
    """What is amiss, one paragraph each."""
    found = findings(session)
    if not found:
        return f"Nothing is amiss: {len(CHECKS)} checks. `%flyte report` makes a text for a bug report."
    many = f"{len(found)} thing{'s' * (len(found) != 1)} to look at:"
    return "\n".join([many, *(f"- {finding}" for finding in found)])


def findings(session: Session) -> list[str]:
    """What the checks found, in order. A check that fails says so, and the others go on."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found.extend(check(session))
        except Exception as exc:
            found.append(
                f"The check of {check.__name__.strip('_').replace('_', ' ')} failed: {type(exc).__name__}: {exc}"
            )
    return found


def _requirements(_session: Session) -> Iterator[str]:
    """Installed packages against what this package asks for: an old ipykernel is the usual one."""
    for line in (metadata.requires("flyte_nb") if _installed() else None) or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield f"{needed.name} is not installed in {sys.prefix}: `%pip install '{needed.name}{needed.specifier}'`."
            continue
        if not needed.specifier.contains(installed, prereleases=True):
            wanted = f"'{needed.name}{needed.specifier}'"
            yield f"{needed.name} is {installed}, and {wanted} is needed: `%pip install {wanted}`, then restart the kernel."


def _front_end(session: Session) -> Iterator[str]:
    """Whether a browser answered: a server's environment without anywidget is the usual reason where none did."""
    notebook = session.notebook
    if notebook is None or not notebook.is_attended() or not notebook.output.in_kernel:
        return
    views = list(session.shown.views.values())
    if views and all(view.mode is Mode.HTML for view in views):
        yield (
            "No browser has answered for a live view, so runs are shown as pages that are renewed: the front end has no "
            "anywidget, or blocks widgets. Install anywidget (0.9.18 or newer) where the Jupyter server runs, and load the "
            "page again; in VS Code allow the Jupyter extension to load widgets from jsdelivr or unpkg."
        )


def _nested_loops(_session: Session) -> Iterator[str]:
    if nesting() is Nesting.NEST_ASYNCIO:
        yield (
            "nest_asyncio 1.x is applied in this kernel: on ipykernel 7 it loses cells and clicks. Remove "
            "`nest_asyncio.apply()`, restart the kernel, and write `await`, or run `%flyte nest`."
        )


def _workers(session: Session) -> Iterator[str]:
    """What the cluster says of itself: failed, lost, workers of other versions, workers out of reach."""
    if session.starting.done() and (error := session.starting.exception()) is not None:
        yield f"The cluster could not be started: {error} `%flyte cluster restart` tries again."
    network = session.engine.network
    if network.is_lost:
        yield network.lost_text()
    for why in network.unfit.values():  # a sentence with its worker and the remedy
        yield f"{why[:1].upper()}{why[1:].rstrip('.')}."
    for address, why in network.unreachable.items():
        remedy = ' `flyte_nb.init(..., links="auto")` goes through the scheduler where there is no other way.'
        attached = network.handle is not None and not network.handle.embedded
        fits = attached and why != WITHOUT_NANNY and not network.routes.has_relay
        yield f"Worker {address} cannot be used: {why.rstrip('.')}.{remedy if fits else ''}"


def _shared_memory(_session: Session) -> Iterator[str]:
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < ENOUGH_SHARED_MEMORY:
        yield (
            f"{SHARED_MEMORY} has {bytes_text(free)} free: larger arrays and data frames go through the disk, which is slower. "
            "In Docker: `docker run --shm-size=2g`; in Kubernetes: an emptyDir of medium Memory at /dev/shm."
        )


def _disk(_session: Session) -> Iterator[str]:
    for what, folder in (("temporary files", Path(tempfile.gettempdir())), ("the result cache", folder_and_bound()[0])):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        if free < ENOUGH_DISK:
            yield f"{folder}, where {what} lie, has {bytes_text(free)} free. TMPDIR and FLYTE_NB_CACHE_DIR name other folders."


def _history(session: Session) -> Iterator[str]:
    if session.past is not None and session.past.journal.off:
        yield f"Runs are not recorded any more, so they do not outlive this kernel: {session.past.journal.off}"


def _open_files(_session: Session) -> Iterator[str]:
    if sys.platform == "win32":
        return
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < soft < ENOUGH_FILES:
        yield f"This process may open {soft} files: `ulimit -n 4096` in the shell that starts Jupyter."


def _proxy(_session: Session) -> Iterator[str]:
    """A proxy that is asked for this machine's own addresses: local servers that tasks speak to answer with its errors."""
    here = {name: value for name, value in os.environ.items() if name.lower() in PROXIES and value}
    exempt = re.split(r"[,\s]+", os.environ.get("no_proxy", "") or os.environ.get("NO_PROXY", ""))
    if here and not {"*", "localhost", "127.0.0.1", "127.0.0.0/8"} & set(exempt):
        yield (
            f"{', '.join(sorted(here))} is set and no_proxy does not name localhost: requests of tasks to servers on this "
            "machine go to the proxy. `%env no_proxy=localhost,127.0.0.1`. The cluster's own connections use no proxy."
        )


def _versions_of_ours(_session: Session) -> Iterator[str]:
    """An upgrade without a restart, or two copies of the package on the path."""
    import flyte_nb

    installed = _installed()
    if installed not in {"", flyte_nb.__version__}:
        yield (
            f"flyte_nb {flyte_nb.__version__} is loaded from {Path(flyte_nb.__file__).parent}, and {installed} is installed: "
            "restart the kernel; if that does not help, one of the two is in the way on sys.path."
        )


def _installed() -> str:
    """The version that pip knows; "" where a checkout is on the path instead."""
    try:
        return metadata.version("flyte_nb")
    except metadata.PackageNotFoundError:
        return ""


CHECKS: tuple[Callable[[Session], Iterator[str]], ...] = (
    _requirements, _versions_of_ours, _front_end, _nested_loops, _workers, _shared_memory, _disk, _history, _open_files, _proxy,
)  # fmt: skip
