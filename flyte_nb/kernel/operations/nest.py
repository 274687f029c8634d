"""Nested event loops: `asyncio.run(main())` in a cell, on request, by ``%flyte nest``. Runs in: kernel main thread.

A notebook's event loop is running already, so `asyncio.run` in a cell raises RuntimeError. `await main()` is the way in a
notebook, and nothing is patched by default. Code pasted from a script can have its way with `%flyte nest`, which applies
nest-asyncio2. Its ancestor nest_asyncio 1.6 must not be used on ipykernel 7: while a cell is inside `asyncio.run`, every
message that arrives is lost, so that "Run All" hangs (measured with ipykernel 7.3 and 7.4 on Python 3.11 to 3.13).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import Enum
from importlib.metadata import version

from flyte_nb.kernel.cells.tracker import Cell, CellTracker
from flyte_nb.kernel.operations import subcommand

REMEDY = (
    "flyte_nb: a notebook runs an event loop already. Write `await main()` instead of `asyncio.run(main())`, "
    "or run `%flyte nest` once to allow nested loops."
)

WARNING = (
    "flyte_nb: nest_asyncio 1.6 is applied in this kernel. On ipykernel 7 it loses the cells and clicks that arrive while "
    "`asyncio.run()` runs. Remove `nest_asyncio.apply()`, restart the kernel, and use `await`, or `%flyte nest`."
)

#: How asyncio words it: `asyncio.run`, `loop.run_until_complete`, and a second loop in the same thread.
_NESTED = (
    "cannot be called from a running event loop",
    "This event loop is already running",
    "Cannot run the event loop while another loop is running",
)


class Nesting(Enum):
    """What is patched into asyncio in this process."""

    #: Nothing: one loop a thread.
    NONE = "none"
    #: nest-asyncio2: `asyncio.run` works in a cell.
    NEST_ASYNCIO2 = "nest-asyncio2"
    #: nest_asyncio 1.x: works too, but loses messages on ipykernel 7.
    NEST_ASYNCIO = "nest_asyncio"


def nesting() -> Nesting:
    """What is patched into asyncio in this process now."""
    if hasattr(asyncio, "_nest_asyncio2"):
        return Nesting.NEST_ASYNCIO2
    return Nesting.NEST_ASYNCIO if hasattr(asyncio, "_nest_patched") else Nesting.NONE


@subcommand("nest", "", "allow asyncio.run() in cells (applies nest-asyncio2)")
def nest(_session: object, *_words: str) -> str:
    """Allow nested event loops in this process, for good (asyncio can't be unpatched while it runs); returns what was done.

    Raises:
        RuntimeError: If nest_asyncio 1.x is applied already; only a restart removes it.
    """
    match nesting():
        case Nesting.NEST_ASYNCIO2:
            return "Nested event loops are allowed already (nest-asyncio2)."
        case Nesting.NEST_ASYNCIO:
            raise RuntimeError(
                "nest_asyncio is applied in this kernel, and nest-asyncio2 can't replace it there. "
                "Remove `nest_asyncio.apply()`, restart the kernel, and run `%flyte nest`."
            )
        case Nesting.NONE:
            import nest_asyncio2

            nest_asyncio2.apply()
            return (
                "Nested event loops are allowed from now on (nest-asyncio2): `asyncio.run(main())` works in a cell. "
                "asyncio is about twice as slow under it; `await main()` needs none of this."
            )


class NestAdvisor:
    """Prints a one-line remedy under a cell that tried to nest loops, and one warning about nest_asyncio 1.x."""

    def __init__(self, cells: CellTracker) -> None:
        self._cells = cells
        self._remove: Callable[[], None] | None = None
        self._warned = False
        #: The error that was shown last: `%run` shows those of its script itself.
        self._last: BaseException | None = None

    def install(self) -> None:
        """Start looking at how cells end. Does nothing when installed already."""
        if self._remove is None:
            self._remove = self._cells.on_end(self._end)
            self._warn()

    def uninstall(self) -> None:
        """Stop. Does nothing when not installed."""
        remove, self._remove = self._remove, None
        if remove is not None:
            remove()

    def _end(self, _cell: Cell, error: BaseException | None) -> None:
        shown: BaseException | None = getattr(sys, "last_value", None)
        if error is None and shown is not self._last:
            error = shown
        self._last = shown
        if error is not None and is_nested_loop_error(error):
            print(REMEDY, file=sys.stderr)  # noqa: T201 - under the cell, after its traceback
        self._warn()

    def _warn(self) -> None:
        if not self._warned and nesting() is Nesting.NEST_ASYNCIO and _ipykernel_loses_messages(self._cells.ip):
            self._warned = True
            print(WARNING, file=sys.stderr)  # noqa: T201 - for the user


def is_nested_loop_error(error: BaseException) -> bool:
    """Whether ``error`` is asyncio's refusal to run a loop inside a running one."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NESTED)


def _ipykernel_loses_messages(ip: object) -> bool:
    if getattr(ip, "kernel", None) is None:
        return False
    return int(version("ipykernel").partition(".")[0]) >= 7
