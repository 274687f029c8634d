"""Companions: what goes along with the code of every task, to be set up where it runs. Runs in: everywhere.

What a program has registered in its own process (`flyte_nb.io.extend`) is nothing that a task's code refers to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Companions:
    """What this process has registered. Workers call each when a task's code has arrived with it."""

    def __init__(self) -> None:
        #: Grows with every change.
        self.version = 0
        self._by_key: dict[Hashable, Callable[[], object]] = {}

    def add(self, key: Hashable, set_up: Callable[[], object]) -> None:
        """Register one, in place of an earlier one of the same key; it is pickled."""
        self._by_key[key] = set_up
        self.version += 1

    def all(self) -> tuple[Callable[[], object], ...]:
        """All of them, in order."""
        return tuple(self._by_key.values())

    def __repr__(self) -> str:
        return f"<Companions {list(self._by_key)}>"


COMPANIONS = Companions()
