"""Names of workers: w0, w1 and so on, the same in views, texts, tracebacks and commands. Runs in: everywhere.

Everything that happens names a worker by its address, which says nothing to people and is another one once its process was
replaced. Who lists the workers gives each a name (`learn`); where none is known, the address is all there is to say.
"""

from __future__ import annotations

#: Addresses that are remembered, of workers that have gone, too: those that were learnt first go first.
MAX_KNOWN = 20_000

_known: dict[str, str] = {}


def learn(address: str, name: str) -> None:
    """The worker at this address has a name from now on."""
    _known[address] = name
    while len(_known) > MAX_KNOWN:
        del _known[next(iter(_known))]


def name_of(address: str) -> str:
    """``"w0"``; the address where no name is known."""
    return _known.get(address, address)


class Numbers:
    """Names for workers that Dask calls by numbers, or by anything else: a replaced process has its predecessor's."""

    def __init__(self) -> None:
        self._by_name: dict[object, int] = {}

    def name(self, called: object) -> str:
        """The name of a worker that Dask calls so."""
        if called not in self._by_name:
            taken = set(self._by_name.values())
            wanted = called if isinstance(called, int) and 0 <= called not in taken else 0
            while wanted in taken:
                wanted += 1
            self._by_name[called] = wanted
        return f"w{self._by_name[called]}"
