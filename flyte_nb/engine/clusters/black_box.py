"""Black box: a small file in which a worker notes what computes, and last words; read once it is dead.

A process that is killed says nothing any more. Which of the actions on it held a compute slot decides which one may have been
the cause; the others only waited there. So each lane thread notes the action whose turn it is in a file that is mapped into
memory: 0.3 us a turn, no system call. The kernel maps it as well, if the worker is on its machine, while it is alive.

Runs in: worker process (writes), engine thread (reads).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from flyte_nb.core.history.columns import DIGEST

#: Bytes of one lane's entry; entries, of as many lanes as have threads with a slot at once, and more.
ENTRY, ENTRIES = 192, 128
#: Exit status of a worker in which our own machinery has failed (``EX_SOFTWARE``), and what its last words begin with.
BROKEN, CANNOT_GO_ON = 70, "flyte_nb cannot go on in it"
#: Bytes of the last words, which come first.
WORDS = 2048
SIZE = WORDS + ENTRY * ENTRIES


class BlackBox:
    """The box of one process, mapped; its memory goes with the process, its content does not."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        """Map a box, or make one.

        Raises:
            OSError: There is none at this path on this machine.
        """
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if make else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if make:
                os.ftruncate(descriptor, SIZE)
            elif os.fstat(descriptor).st_size != SIZE:
                raise OSError(f"{path} is no such box")
            self._map = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._free = list(range(ENTRIES))

    # -- in the worker --------------------------------------------------------------------------------------------

    def entry(self) -> int | None:
        """Reserve the entry of a lane; None if all are taken."""
        return WORDS + ENTRY * self._free.pop() if self._free else None

    def give_back(self, entry: int) -> None:
        """A lane has ended."""
        self.clear(entry)
        self._free.append((entry - WORDS) // ENTRY)

    def turn(self, entry: int, run: str, action: str) -> None:
        """An action of this lane computes from now on."""
        data = f"{run}\0{action}\0".encode()[:ENTRY]
        self._map[entry : entry + len(data)] = data

    def rows(self, entry: int, run: str, names: bytes, suffix: str) -> Callable[[int], None]:
        """What notes that one of some rows (`flyte_nb.core.history.columns`) computes from now on, by its place."""
        digits, width, mapped = names.hex().encode(), 2 * DIGEST, self._map
        self.turn(entry, run, digits[:width].decode() + suffix)
        at = entry + len(run.encode()) + 1

        def note(place: int) -> None:
            mapped[at : at + width] = digits[width * place : width * (place + 1)]

        return note

    def clear(self, entry: int) -> None:
        """Nothing of this lane computes."""
        self._map[entry : entry + 1] = b"\0"

    def last_words(self, text: str) -> None:
        """Note why this process ends itself."""
        data = text.encode(errors="replace")[: WORDS - 1] + b"\0"
        self._map[: len(data)] = data

    # -- in the kernel --------------------------------------------------------------------------------------------

    def computing(self) -> frozenset[tuple[str, str]]:
        """(run, action) of those that held a slot when last noted."""
        found = set()
        for entry in range(WORDS, SIZE, ENTRY):
            run, _, rest = self._map[entry : entry + ENTRY].partition(b"\0")
            if run:
                found.add((run.decode(errors="replace"), rest.partition(b"\0")[0].decode(errors="replace")))
        return frozenset(found)

    def words(self) -> str:
        """Why the process ended itself; "" if it did not."""
        return self._map[:WORDS].partition(b"\0")[0].decode(errors="replace")

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()

    def __repr__(self) -> str:
        return f"<BlackBox [{len(self.computing())} computing]>"
