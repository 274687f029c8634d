"""Welcome workers: compare versions by Dask's own means, bring the package where it is missing, open a host for this kernel.

Nothing of it is left with the scheduler: a worker starts without us, whoever it is for, and is welcomed when it is listed.
Runs in: engine thread.
"""

from __future__ import annotations

import functools
import io
import types
import zipfile
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from distributed import versions

import flyte_nb
from flyte_nb.engine.clusters import guest

#: Packages that both ends of a pickle need alike, and how many parts of their version numbers must be the same.
COMPARED = {"python": 2, "distributed": 2, "cloudpickle": 2}
_NAMES = {"python": "Python"}

_FOLDER = Path(guest.__file__).parents[2]


class AsSource:
    """A function of a module, pickled as the module's source: what unpickles it executes no bytecode of this process."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        self.__name__ = name
        self._module = module

    def __call__(self, *_args: Any) -> Any:
        """Not here."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        space = {"__name__": "flyte_nb_guest"}
        where = {"source": _source(self._module), "space": space, "name": self.__name__}
        return eval, ("(exec(source, space), space[name])[1]", where)


@functools.cache
def _source(module: types.ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


@functools.cache
def build() -> str:
    """Which build of the package this process has."""
    return guest.build_of(_FOLDER)


@functools.cache
def archive() -> bytes:
    """The worker's side of the package, zipped: it is pure Python. Compiled as well, as far as it has been here."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for path in guest.files_of(_FOLDER):
            made.write(_FOLDER / path, f"flyte_nb/{path}")
            compiled = Path(cache_from_source(str(_FOLDER / path)))
            if compiled.is_file():  # Python uses it where it fits the source
                made.write(compiled, f"flyte_nb/{path}c")
    return buffer.getvalue()


def difference(mine: dict[str, Any], theirs: dict[str, Any], who: str) -> str:
    """What keeps a process from being used, as a sentence; "" for nothing.

    Args:
        mine: Versions of packages here, as Dask tells them.
        theirs: Those of the other process.
        who: "worker tcp://...", as it is called.
    """
    for package, parts in COMPARED.items():
        ours, other = (str(found.get(package) or "") for found in (mine, theirs))
        if ours and other and ours.split(".")[:parts] != other.split(".")[:parts]:
            name = _NAMES.get(package, package)
            ours, other = (".".join(each.split(".")[:3]) for each in (ours, other))
            return (
                f"{who} has {name} {other}, and this process has {name} {ours}: code and values cannot travel between them. "
                f"Install {name} {ours} there, or {other} here"
            )
    return ""


async def unlike(client: Any, workers: list[str] | None, scheduler: bool = False) -> dict[str, str]:
    """What keeps processes of a cluster from being used, by address; those that fit are left out. Asks Dask, and runs no code.

    Args:
        client: Dask's.
        workers: Addresses.
        scheduler: Whether to look at the scheduler as well.
    """
    mine = versions.get_versions()["packages"]
    asked = await client.scheduler.broadcast(msg={"op": "versions", "packages": []}, workers=workers, on_error="ignore")
    found = {address: difference(mine, told["packages"], f"worker {address}") for address, told in asked.items()}
    if scheduler:
        told = await client.scheduler.versions(packages=[])
        address = client.scheduler.address
        found[address] = difference(mine, told["packages"], f"the scheduler {address}")
    return {address: text for address, text in found.items() if text}


async def settle(client: Any, workers: list[str], kernel: str, entry: str, grows: bool) -> dict[str, str]:
    """Make workers hosts for a kernel; returns why not, by address, for those that are none.

    Args:
        client: Dask's.
        workers: Addresses; of processes whose versions fit.
        kernel: Its name as a peer.
        entry: Module that makes hosts.
        grows: Whether the cluster may get more workers.
    """
    refused: dict[str, str] = {}
    for brought in (None, archive):
        if workers:
            content = brought() if brought is not None else None
            given = (kernel, entry, grows, flyte_nb.__version__, build(), content)
            found = await client.run(AsSource(guest, "settle"), *given, workers=workers, on_error="return")
            refused.update(
                (address, said if isinstance(said, str) else f"does not answer: {said}")
                for address, said in found.items()
            )
            workers = [address for address in workers if refused.get(address) == guest.NEEDED]
    return {address: f"worker {address} {why}" for address, why in refused.items() if why}
