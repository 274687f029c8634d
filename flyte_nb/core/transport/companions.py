"""Companions: what goes along with the code of every task, to be set up where it runs. Runs in: everywhere.

What a program has registered in its own process (`flyte_nb.io.extend`) is nothing that a task's code refers to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from flyte_nb.core.values.by_value.classes import Classes

SetUp = Callable[[], object]


class Companions:
    """What this process has registered, and what has arrived with the code of others."""

    def __init__(self) -> None:
        #: Grows with every change.
        self.version: int = 0
        self._by_key: dict[Hashable, SetUp] = {}
        #: Those of a version of code, by its classes: theirs are the classes that they are about.
        self._arrived: WeakKeyDictionary[Classes, tuple[SetUp, ...]] = WeakKeyDictionary()
        self._arriving = threading.local()

    def add(self, key: Hashable, set_up: SetUp) -> bool:
        """Register one, in place of an earlier one of the same key; it is pickled.

        Returns:
            Whether it is this process's own, and has not just come with a task's code.
        """
        own = not getattr(self._arriving, "now", False)
        if own:
            self._by_key[key] = set_up
            self.version += 1
        return own

    def of(self, classes: Classes | None) -> tuple[SetUp, ...]:
        """Those that go along with a task: what came with its code, and what this process has registered."""
        came = self._arrived.get(classes, ()) if classes is not None else ()
        return (*came, *self._by_key.values())

    def arrived(self, classes: Classes | None, companions: tuple[SetUp, ...]) -> None:
        """Set up what has come with a task's code. It goes along with that code only, else each version had those of all."""
        self._arriving.now = True
        try:
            for set_up in companions:
                set_up()
        finally:
            self._arriving.now = False
        if classes is not None and companions:
            self._arrived[classes] = companions

    def __repr__(self) -> str:
        return f"<Companions {list(self._by_key)}>"


COMPANIONS = Companions()
