"""Guest: what makes a worker of any cluster a host for one kernel. Runs in: worker loop, where this file is sent as source.

As source, since bytecode of another Python version can end the process that loads it; so nothing here needs this package to
be there. What it puts there (an archive of the package, a place on ``sys.path``) goes when the last kernel has left
(`flyte_nb.worker.process.premises`).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

#: Beginning of the name of an archive of the package; the build follows.
ARCHIVE = "flyte_nb-"
#: What `settle` returns where the package is needed and was not sent along.
NEEDED = "the package"
#: Parts of the package that workers have no use for.
ELSEWHERE = ("kernel", "views")


def build_of(folder: Path) -> str:
    """Which build of the package is in a folder, or in an archive: a hash of the worker's side of it."""
    if folder.parent.is_file():
        return folder.parent.stem[len(ARCHIVE) :]
    digest = hashlib.sha256()
    for name in files_of(folder):
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()[:16]


def files_of(folder: Path) -> list[str]:
    """The files of the worker's side of the package, relative to its folder."""
    found = (path.relative_to(folder) for path in folder.rglob("*.py"))
    return sorted(path.as_posix() for path in found if path.parts[0] not in ELSEWHERE)


def leave(worker: Any, kernel: str) -> bool:
    """Take a kernel off the list; returns whether it was the last."""
    worker._flyte_nb_hosts.pop(kernel, None)  # noqa: SLF001 - our marks on Dask's worker
    if worker._flyte_nb_hosts:  # noqa: SLF001
        return False
    for mark in ("_flyte_nb_hosts", "_flyte_nb_lock", "_flyte_nb_premises"):
        vars(worker).pop(mark, None)
    return True


async def settle(
    kernel: str, entry: str, grows: bool, version: str, build: str, archive: bytes | None, dask_worker: Any = None
) -> str:
    """Make a worker a host for a kernel.

    Args:
        kernel: Its name as a peer.
        entry: Module of the package that makes hosts.
        grows: Whether the cluster may get more workers.
        version: Of the kernel's package.
        build: Of the kernel's package: every process of a kernel has the same.
        archive: The package, zipped; None at first, since many workers have it.
        dask_worker: Given by Dask.

    Returns:
        "" when it is one; `NEEDED`; else why it is none, in words that follow "it".
    """
    async with vars(dask_worker).setdefault("_flyte_nb_lock", asyncio.Lock()):
        hosts = vars(dask_worker).setdefault("_flyte_nb_hosts", {})
        if hosts.get(kernel) is not None:
            return ""
        others, hosts[kernel] = any(hosts.values()), None  # from here on the package stays, if it is there
        try:
            refusal = await asyncio.to_thread(
                _prepare, others, entry, version, build, archive, dask_worker.local_directory
            )
            if not refusal:
                await importlib.import_module(entry).open_host(dask_worker, kernel, grows)
        except Exception as exc:
            refusal = f"cannot load flyte_nb {version}: {type(exc).__name__}: {exc}"
        if refusal:
            leave(dask_worker, kernel)
        return refusal


def _prepare(others: bool, entry: str, version: str, build: str, archive: bytes | None, folder: str) -> str:
    """Have the build that is wanted imported; returns what `settle` does."""
    loaded: Any = sys.modules.get("flyte_nb")
    there = build_of(Path(loaded.__file__).parent) if loaded is not None else ""
    if loaded is not None and there != build:
        if others:
            return (
                f"executes tasks of another kernel with flyte_nb {loaded.__version__} (build {there}), and this kernel has "
                f"flyte_nb {version} (build {build}): a process has room for one"
            )
        for name in [name for name in sys.modules if name.partition(".")[0] == "flyte_nb"]:
            del sys.modules[name]  # nobody uses it
        loaded = None
    if loaded is None and _installed() != build:
        if archive is None:
            return NEEDED
        path = Path(folder) / f"{ARCHIVE}{build}.zip"
        path.write_bytes(archive)
        sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    importlib.import_module(entry)
    return ""


def _installed() -> str:
    """The build that an import would find."""
    spec = importlib.util.find_spec("flyte_nb")
    return build_of(Path(spec.origin).parent) if spec is not None and spec.origin else ""
